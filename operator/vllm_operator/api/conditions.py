"""Condition types, their reasons, and how a list of them is updated without touching what has not changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from vllm_operator.api.status import Condition

if TYPE_CHECKING:
    from collections.abc import Iterable

READY: Final = "Ready"
SPEC_VALID: Final = "SpecValid"
MODEL_RESOLVED: Final = "ModelResolved"
FEASIBLE: Final = "Feasible"
RENDERED: Final = "Rendered"
PROGRESSING: Final = "Progressing"
AVAILABLE: Final = "Available"
DEGRADED: Final = "Degraded"

TYPES: Final = (READY, SPEC_VALID, MODEL_RESOLVED, FEASIBLE, RENDERED, PROGRESSING, AVAILABLE, DEGRADED)
"""All types, in the order in which they are written; each is present from the first touch."""

# SpecValid
VALID: Final = "Valid"
INVALID: Final = "Invalid"

# ModelResolved
RESOLVED: Final = "Resolved"
RESOLVING: Final = "Resolving"
MODEL_NOT_FOUND: Final = "ModelNotFound"
MODEL_GATED: Final = "ModelGated"
SOURCE_OFFLINE: Final = "SourceOffline"
MODEL_UNREADABLE: Final = "ModelUnreadable"
REFERENCE_MISSING: Final = "ReferenceMissing"

# Feasible: the verdict itself
FITS: Final = "Fits"
FITS_IF_FREED: Final = "FitsIfFreed"
FITS_WHEN_SCALED: Final = "FitsWhenScaled"
DOES_NOT_FIT: Final = "DoesNotFit"
UNKNOWN: Final = "Unknown"

# Rendered
APPLIED: Final = "Applied"
APPLIED_IN_PART: Final = "AppliedInPart"
PART_NOT_WORKING: Final = "PartNotWorking"
WITHHELD: Final = "Withheld"
CONFLICT: Final = "Conflict"
APPLY_FAILED: Final = "ApplyFailed"
STALE: Final = "Stale"

# An Event about what was lowered; no condition has it
AUTO_ADJUSTED: Final = "AutoAdjusted"

# Progressing, Available, Ready
ROLLING_OUT: Final = "RollingOut"
COMPLETE: Final = "Complete"
DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
MODEL_SERVED: Final = "ModelServed"
PODS_NOT_READY: Final = "PodsNotReady"
SCALED_TO_ZERO: Final = "ScaledToZero"
NOT_STARTED: Final = "NotStarted"

# Degraded
AS_EXPECTED: Final = "AsExpected"
NODE_NOT_READY: Final = "NodeNotReady"
GPUS_UNHEALTHY: Final = "GpusUnhealthy"
QUOTA_EXCEEDED: Final = "QuotaExceeded"
PODS_REFUSED: Final = "PodsRefused"
UNSCHEDULABLE: Final = "Unschedulable"
EVICTED: Final = "Evicted"
CRASH_LOOP: Final = "CrashLoop"
STARTUP_TIMEOUT: Final = "StartupTimeout"
CONTAINER_CONFIG_ERROR: Final = "ContainerConfigError"
IMAGE_PULL_FAILED: Final = "ImagePullFailed"
OUT_OF_MEMORY: Final = "OutOfMemory"
WORKER_DIED: Final = "WorkerDied"
OUT_OF_GPU_MEMORY: Final = "OutOfGpuMemory"
GPU_IN_USE: Final = "GpuInUse"
KV_CACHE_TOO_SMALL: Final = "KVCacheTooSmall"
SHARED_MEMORY_TOO_SMALL: Final = "SharedMemoryTooSmall"
CONTEXT_TOO_LONG: Final = "ContextTooLong"
UNSUPPORTED_DTYPE: Final = "UnsupportedDtype"
UNSUPPORTED_QUANTIZATION: Final = "UnsupportedQuantization"
UNSUPPORTED_MODEL: Final = "UnsupportedModel"
INVALID_ARGUMENT: Final = "InvalidArgument"

# Events about what vLLM reported; no condition has them
ESTIMATE_OFF: Final = "EstimateOff"
CAPACITY_BELOW_WORKLOAD: Final = "CapacityBelowWorkload"
OBSERVATION_IGNORED: Final = "ObservationIgnored"
OBSERVATION_MISSING: Final = "ObservationMissing"


def set_condition(
    conditions: Iterable[Condition],
    condition_type: str,
    status: Literal["True", "False", "Unknown"],
    *,
    reason: str,
    message: str,
    observed_generation: int,
    now: str,
) -> list[Condition]:
    """Return the conditions with one of them set; `lastTransitionTime` moves only when its status does."""
    kept = list(conditions)
    index = next((i for i, condition in enumerate(kept) if condition.type == condition_type), None)
    unchanged = index is not None and kept[index].status == status
    fresh = Condition(
        type=condition_type,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=kept[index].last_transition_time if index is not None and unchanged else now,
        observed_generation=observed_generation,
    )
    if index is None:
        kept.append(fresh)
    else:
        kept[index] = fresh
    return kept


def find_condition(conditions: Iterable[Condition], condition_type: str) -> Condition | None:
    """Return the condition of a type, or None before the first touch."""
    return next((condition for condition in conditions if condition.type == condition_type), None)
