"""Which adjustment is in force, and the next one: kept beside the pods that it is for, in an annotation.

It goes with the workload, and with the spec that it was made for; a status that is lost loses nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import conditions as reasons
from vllm_operator.api.spec import AutoAdjust
from vllm_operator.planning.adjustment import Adjustment, Overload, next_adjustment
from vllm_operator.runtime.engine_words import understand
from vllm_operator.runtime.pinning import pods_of_spec, read_pin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.api.status import PlanStatus
    from vllm_operator.runtime.children import Child
    from vllm_operator.runtime.pods import PodHealth

ADJUSTMENT_ANNOTATION: Final = "vllm-operator.io/adjustment"
REPEATED: Final = 2
"""Restarts after which a crash is no accident of the moment."""
_LIMITS: Final = frozenset({reasons.KV_CACHE_TOO_SMALL, reasons.OUT_OF_GPU_MEMORY})
_SHARED_WORDS: Final = 300


def adjustment_of(
    spec: VLLMDeploymentSpec,
    workload: Child | None,
    pods: Iterable[PodHealth],
    running: PlanStatus | None,
    *,
    uid: str,
) -> Adjustment | None:
    """Return how much less than the spec is to be asked for; None where it is what the spec says.

    `workload` is the object that runs the pods, and `running` the plan that they follow. Only what its own pods say
    leads on from a plan: those of an earlier one may still be crashing while they are replaced. `uid`: that of the
    VLLMDeployment; the workload of a deleted one of the same name, which is still being removed, says nothing.
    """
    if spec.policy.auto_adjust is not AutoAdjust.SAFE or workload is None or workload.owner_uid != uid:
        return None
    body = workload.body()
    before = _read(body, pods_of_spec(spec))
    pin = read_pin(body)
    if pin is None or running is None or running.hash != pin.plan_hash:
        return before
    overload = overload_of(pod for pod in pods if pod.plan_hash == pin.plan_hash)
    if overload is None:
        return before
    after = next_adjustment(
        overload, max_model_len=running.max_model_len, max_num_seqs=running.max_num_seqs, before=before
    )
    return after or before


def overload_of(pods: Iterable[PodHealth]) -> Overload | None:
    """Return what vLLM said last in a pod that has crashed again and again because it was asked for too much."""
    for pod in pods:
        if pod.ready or pod.deleting or pod.container or pod.restarts < REPEATED:
            continue
        understood = understand(pod.ended_message)
        if understood is not None and understood.reason in _LIMITS:
            return Overload(
                fact=understood.fact[:_SHARED_WORDS],
                most_context=understood.most_context,
                most_sequences=understood.most_sequences,
                out_of_memory=understood.reason == reasons.OUT_OF_GPU_MEMORY,
            )
    return None


def annotations_of(spec: VLLMDeploymentSpec, adjustment: Adjustment) -> dict[str, str]:
    """Return what a workload keeps of an adjustment that was made for this spec of the user's."""
    kept = {
        "spec": pods_of_spec(spec),
        "contextLength": adjustment.context_length,
        "maxNumSeqs": adjustment.max_num_seqs,
        "steps": adjustment.steps,
        "why": adjustment.why,
    }
    return {ADJUSTMENT_ANNOTATION: json.dumps(kept, sort_keys=True, separators=(",", ":"))}


def _read(workload: Mapping[str, Any], pods: str) -> Adjustment | None:
    """Return the adjustment that was made for a spec with this digest; None where nothing readable says so."""
    text = (workload["metadata"].get("annotations") or {}).get(ADJUSTMENT_ANNOTATION)
    if text is None:
        return None
    try:
        kept = json.loads(text)
        if kept["spec"] != pods:
            return None
        return Adjustment(
            context_length=_positive(kept["contextLength"]),
            max_num_seqs=_positive(kept["maxNumSeqs"]),
            steps=int(kept["steps"]),
            why=str(kept["why"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
