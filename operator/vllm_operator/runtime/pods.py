"""What the pods of our deployments are going through, and what that means to their user."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster.reading import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNSCHEDULABLE: Final = "Unschedulable"
IMAGE_PULL_FAILED: Final = "ImagePullFailed"
CONTAINER_CONFIG_ERROR: Final = "ContainerConfigError"
OUT_OF_GPU_MEMORY: Final = "OutOfGpuMemory"
KV_CACHE_TOO_SMALL: Final = "KVCacheTooSmall"
OUT_OF_MEMORY: Final = "OutOfMemory"
MODEL_GATED: Final = "ModelGated"
CRASH_LOOP: Final = "CrashLoop"
EVICTED: Final = "Evicted"

_IMAGE_REASONS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CONFIG_REASONS: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_LONGEST_MESSAGE: Final = 600

# vLLM's own words: v1/core/kv_cache_utils.py:check_enough_kv_cache_memory@v0.33.0.
_ESTIMATED_LENGTH: Final = re.compile(r"estimated maximum model length is (\d+)")
_KV_WORDS: Final = ("No available memory for the cache blocks", "KV cache is needed, which is larger than")
_GPU_MEMORY_WORDS: Final = (
    "CUDA out of memory",
    "torch.OutOfMemoryError",
    "HIP out of memory",
    "CUDA error: out of memory",
)
_GATED_WORDS: Final = ("GatedRepoError", "Access to model", "401 Client Error", "403 Client Error")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodHealth:
    """One pod of ours, as far as its user wants to know."""

    uid: str
    name: str
    phase: str
    node_name: str | None
    ready: bool
    waiting_reason: str = ""
    waiting_message: str = ""
    ended_reason: str = ""
    ended_message: str = ""
    exit_code: int | None = None
    restarts: int = 0
    unschedulable: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong with a deployment's pods, with the next step."""

    reason: str
    message: str


class Pods:
    """The pods of our deployments by `namespace/name` of the VLLMDeployment."""

    def __init__(self) -> None:
        self._by_owner: dict[str, dict[str, PodHealth]] = {}
        self._owner_of: dict[str, str] = {}

    def of(self, owner: str) -> tuple[PodHealth, ...]:
        """Return the pods of one VLLMDeployment, by name."""
        return tuple(sorted(self._by_owner.get(owner, {}).values(), key=lambda pod: pod.name))

    def upsert(self, obj: Mapping[str, Any]) -> str | None:
        """Take a pod; returns its owner when something of interest changed."""
        metadata = obj["metadata"]
        owner = owner_of(metadata.get("namespace", "default"), metadata.get("labels") or {})
        if owner is None:
            return self.remove(metadata["uid"])
        pod = project_health(obj)
        known = self._by_owner.setdefault(owner, {})
        self._owner_of[pod.uid] = owner
        if known.get(pod.uid) == pod:
            return None
        known[pod.uid] = pod
        return owner

    def remove(self, uid: str) -> str | None:
        """Forget a pod; returns its owner when it was known."""
        owner = self._owner_of.pop(uid, None)
        if owner is None:
            return None
        del self._by_owner[owner][uid]
        if not self._by_owner[owner]:
            del self._by_owner[owner]
        return owner

    def retain(self, uids: set[str]) -> set[str]:
        """Forget all pods but these; returns the owners of those that are gone."""
        return {owner for uid in self._owner_of.keys() - uids if (owner := self.remove(uid)) is not None}


def project_health(obj: Mapping[str, Any]) -> PodHealth:
    """Read what matters from a pod."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    conditions = {condition.get("type"): condition for condition in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    waiting: Mapping[str, Any] = next(
        (state for item in containers if (state := (item.get("state") or {}).get("waiting"))), {}
    )
    ended = next((state for item in containers if (state := _ended(item))), {})
    if status.get("phase") == "Failed" and status.get("reason"):
        ended = {"reason": status["reason"], "message": status.get("message", ""), **ended}
    return PodHealth(
        uid=str(metadata["uid"]),
        name=str(metadata["name"]),
        phase=str(status.get("phase") or "Pending"),
        node_name=(obj.get("spec") or {}).get("nodeName"),
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        waiting_reason=str(waiting.get("reason") or ""),
        waiting_message=str(waiting.get("message") or "")[-_LONGEST_MESSAGE:],
        ended_reason=str(ended.get("reason") or ""),
        ended_message=str(ended.get("message") or "")[-4 * _LONGEST_MESSAGE :],
        exit_code=ended.get("exitCode"),
        restarts=sum(int(item.get("restartCount") or 0) for item in containers),
        unschedulable=str(scheduled.get("message") or "")
        if scheduled.get("status") == "False" and scheduled.get("reason") == UNSCHEDULABLE
        else "",
    )


def _ended(container: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how a container ended last, when it ended badly."""
    for state in ("state", "lastState"):
        terminated: Mapping[str, Any] | None = (container.get(state) or {}).get("terminated")
        if terminated and terminated.get("exitCode") != 0:
            return terminated
    return None


def classify(pods: Iterable[PodHealth]) -> Failure | None:
    """Return what is wrong, for the pod that tells most; None while nothing is."""
    found = [(failure, pod) for pod in pods if not pod.ready and (failure := _failure(pod)) is not None]
    if not found:
        return None
    failure, _ = max(found, key=lambda pair: (_TELLING.index(pair[0].reason), pair[1].restarts))
    alike = sum(1 for other, _ in found if other.reason == failure.reason)
    return failure if alike == 1 else Failure(failure.reason, f"{alike} pods: {failure.message}")


_TELLING: Final = (
    UNSCHEDULABLE,
    EVICTED,
    CRASH_LOOP,
    CONTAINER_CONFIG_ERROR,
    IMAGE_PULL_FAILED,
    OUT_OF_MEMORY,
    MODEL_GATED,
    OUT_OF_GPU_MEMORY,
    KV_CACHE_TOO_SMALL,
)


def _failure(pod: PodHealth) -> Failure | None:
    if pod.waiting_reason in _IMAGE_REASONS:
        text = f"{pod.waiting_reason}: {pod.waiting_message}; check spec.engine.image and the pull secrets"
        return Failure(IMAGE_PULL_FAILED, f"pod {pod.name}: {text}")
    if pod.waiting_reason in _CONFIG_REASONS:
        return Failure(CONTAINER_CONFIG_ERROR, f"pod {pod.name}: {pod.waiting_reason}: {pod.waiting_message}")
    if pod.ended_reason or pod.exit_code:
        return _failure_of_end(pod)
    if pod.waiting_reason == "CrashLoopBackOff":
        return Failure(
            CRASH_LOOP, f"pod {pod.name} crashed {pod.restarts} times; see its log: kubectl logs {pod.name} -p"
        )
    if pod.unschedulable:
        return Failure(UNSCHEDULABLE, f"pod {pod.name} cannot be scheduled: {pod.unschedulable}")
    return None


def _failure_of_end(pod: PodHealth) -> Failure:
    words = pod.ended_message
    length = _ESTIMATED_LENGTH.search(words)
    if length is not None:
        advice = f"set spec.workload.contextLength to at most {length.group(1)}"
        return Failure(KV_CACHE_TOO_SMALL, f"pod {pod.name}: vLLM's KV cache is too small for the context; {advice}")
    if any(word in words for word in _KV_WORDS):
        advice = "lower spec.workload.contextLength or concurrency, or use a larger GPU"
        return Failure(KV_CACHE_TOO_SMALL, f"pod {pod.name}: vLLM has no memory left for its KV cache; {advice}")
    if any(word in words for word in _GPU_MEMORY_WORDS):
        advice = "raise spec.policy.overheadGb or lower spec.engine.maxNumBatchedTokens"
        return Failure(OUT_OF_GPU_MEMORY, f"pod {pod.name}: the GPU ran out of memory; {advice}")
    if any(word in words for word in _GATED_WORDS):
        advice = "give spec.model.tokenSecretRef a token that has access"
        return Failure(MODEL_GATED, f"pod {pod.name}: the hub refused the model; {advice}")
    if pod.ended_reason == "OOMKilled":
        advice = "raise the container's memory limit in spec.podTemplate"
        return Failure(OUT_OF_MEMORY, f"pod {pod.name} was killed for its main memory (OOMKilled); {advice}")
    if pod.ended_reason == "Evicted":
        return Failure(EVICTED, f"pod {pod.name} was evicted: {words[:_LONGEST_MESSAGE]}")
    last = words.strip().splitlines()[-1][:_LONGEST_MESSAGE] if words.strip() else "it left no message"
    how = f"{pod.ended_reason or 'Error'}, exit code {pod.exit_code}"
    return Failure(CRASH_LOOP, f"pod {pod.name} ended ({how}) and was restarted {pod.restarts} times: {last}")
