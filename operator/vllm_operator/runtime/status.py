"""The status that follows from what is known: pure, so that it can be compared with what is written already."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from vllm_operator.api import conditions as reasons
from vllm_operator.api.status import (
    Condition,
    PlanStatus,
    ReasonStatus,
    SuggestionStatus,
    UtilizationReport,
    VLLMDeploymentStatus,
)
from vllm_operator.models.errors import ModelGated, ModelNotFound, SourceOffline
from vllm_operator.planning.plan import Verdict
from vllm_operator.render.labels import selector_text
from vllm_operator.runtime.children import Rollout
from vllm_operator.runtime.facts import ReferenceMissing

if TYPE_CHECKING:
    from vllm_operator.api.status import ObservedStatus
    from vllm_operator.cluster.quotas import Shortage
    from vllm_operator.models.errors import ModelError
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.adjustment import Adjustment
    from vllm_operator.planning.footing import Footing
    from vllm_operator.planning.observing import Finding
    from vllm_operator.planning.plan import Plan
    from vllm_operator.runtime.failures import Failure

ConditionStatus = Literal["True", "False", "Unknown"]

MOST_NODES: Final = 16
MOST_WARNINGS: Final = 32
MOST_SUGGESTIONS: Final = 5
MOST_REASONS: Final = 64
_LONGEST_MESSAGE: Final = 8000

DECIMALS: Final = 3
"""Of GiB and per cent in the status: a MiB is 0.001 GiB."""
_PERHAPS_WHOLE: Final = (re.compile(r"\.0[,\]}]"), re.compile(r"e\+\d+[,\]}]"))
"""How a number of compact JSON ends that Python writes as a fraction and that is whole; in a text it does no harm.

Two that begin with what is constant: a search for either is eight times as fast as one for both.
"""


_IN_THE_CLUSTER: Final = frozenset({reasons.APPLIED, reasons.APPLIED_IN_PART, reasons.PART_NOT_WORKING, reasons.STALE})


@dataclass(frozen=True, slots=True)
class Rendering:
    """What became of the objects: one of the reasons of the condition Rendered, with its message."""

    reason: str
    message: str

    @property
    def status(self) -> ConditionStatus:
        """Whether the wanted objects are in the cluster."""
        return "True" if self.reason in _IN_THE_CLUSTER else "False"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a status speaks of."""

    name: str
    generation: int
    previous: VLLMDeploymentStatus
    spec_problems: tuple[tuple[str, str], ...] = ()
    model: ModelFacts | ModelError | None = None
    plan: Plan | None = None
    pinned_plan: PlanStatus | None = None
    """The plan that the running pods follow, where it is not `plan`."""
    rendering: Rendering | None = None
    rollout: Rollout | None = None
    """How far the Deployment has come; None while there is none."""
    rollout_is_wanted: bool = False
    """Whether that Deployment is what this generation wants, and all else that a model is not served without exists."""
    failure: Failure | None = None
    shortage: Shortage | None = None
    """The quota that keeps replicas from being made."""
    observed: ObservedStatus | None = None
    """What the running pods' vLLM reported; None where nothing is known of it beyond the status before."""
    findings: tuple[Finding, ...] = ()
    """What of that the user should hear of; the plan's warnings have it too."""
    adjustment: Adjustment | None = None
    """How much less than the spec says was asked for."""
    footing: Footing | None = None
    """What has become of the nodes under the pods."""


def status_of(situation: Situation, *, now: str) -> VLLMDeploymentStatus:
    """Return the status; `now` is the time of conditions whose status changes."""
    plan = situation.plan
    rollout = situation.rollout or Rollout()
    base = VLLMDeploymentStatus()
    if plan is None and situation.previous.observed_generation == situation.generation:
        base = situation.previous
    feasibility = plan.feasibility if plan is not None else base.feasibility
    return VLLMDeploymentStatus(
        observed_generation=situation.generation,
        conditions=_conditions(situation, now),
        verdict=plan.verdict.value if plan is not None else base.verdict or Verdict.UNKNOWN.value,
        oom_risk=(plan.oom_risk.value if plan.oom_risk is not None else None) if plan is not None else base.oom_risk,
        feasibility=feasibility,
        utilization=UtilizationReport(
            weights_percent=feasibility.weights_share,
            required_percent=feasibility.required_share,
            kv_cache_percent=feasibility.kv_cache_share,
        )
        if feasibility is not None
        else None,
        memory=plan.memory if plan is not None else base.memory,
        plan=situation.pinned_plan or (_plan_status(plan) if plan is not None else base.plan),
        suggestions=_suggestions(plan) if plan is not None else base.suggestions,
        warnings=_warnings(situation) if plan is not None else base.warnings,
        observed=situation.observed or situation.previous.observed,
        replicas=rollout.replicas,
        ready_replicas=rollout.ready,
        selector=selector_text(situation.name),
    )


def _warnings(situation: Situation) -> list[str]:
    adjusted = (situation.adjustment.message,) if situation.adjustment is not None else ()
    planned = situation.plan.warnings if situation.plan is not None else ()
    return [*adjusted, *planned][:MOST_WARNINGS]


def _conditions(situation: Situation, now: str) -> list[Condition]:
    found = [
        _spec_valid(situation),
        _model_resolved(situation),
        _feasible(situation),
        _rendered(situation),
        _progressing(situation),
        _available(situation),
        _degraded(situation),
    ]
    found.insert(0, _ready(situation, found))
    conditions: list[Condition] = []
    kept = [condition for condition in situation.previous.conditions if condition.type in reasons.TYPES]
    for condition_type, status, reason, message in found:
        conditions = reasons.set_condition(
            [*conditions, *(old for old in kept if old.type == condition_type)],
            condition_type,
            status,
            reason=reason,
            message=message[:_LONGEST_MESSAGE],
            observed_generation=situation.generation,
            now=now,
        )
    return conditions


_Finding = tuple[str, ConditionStatus, str, str]


def _spec_valid(situation: Situation) -> _Finding:
    if situation.spec_problems:
        text = "; ".join(f"{path}: {message}" for path, message in situation.spec_problems)
        return (reasons.SPEC_VALID, "False", reasons.INVALID, text)
    return (reasons.SPEC_VALID, "True", reasons.VALID, "")


def _model_resolved(situation: Situation) -> _Finding:
    model = situation.model
    if isinstance(model, Exception):
        return (reasons.MODEL_RESOLVED, "False", reason_of_model_error(model), str(model))
    if situation.spec_problems:
        return (reasons.MODEL_RESOLVED, "Unknown", reasons.INVALID, "the spec is not valid")
    if model is None:
        return (reasons.MODEL_RESOLVED, "Unknown", reasons.RESOLVING, "the model's facts are being loaded")
    source = model.source
    text = f"{model.architecture or 'unknown architecture'}"
    if source is not None and source.revision:
        text += f" at revision {source.revision}"
    return (reasons.MODEL_RESOLVED, "True", reasons.RESOLVED, text)


def reason_of_model_error(error: ModelError) -> str:
    """Return the reason that says what kind of error it is."""
    match error:
        case ReferenceMissing():
            return reasons.REFERENCE_MISSING
        case ModelNotFound():
            return reasons.MODEL_NOT_FOUND
        case ModelGated():
            return reasons.MODEL_GATED
        case SourceOffline():
            return reasons.SOURCE_OFFLINE
        case _:
            return reasons.MODEL_UNREADABLE


_FEASIBLE: Final[dict[Verdict, ConditionStatus]] = {
    Verdict.FITS: "True",
    Verdict.FITS_IF_FREED: "True",
    Verdict.FITS_WHEN_SCALED: "True",
    Verdict.DOES_NOT_FIT: "False",
    Verdict.UNKNOWN: "Unknown",
}


def _feasible(situation: Situation) -> _Finding:
    if situation.plan is None:
        reason = reasons.INVALID if situation.spec_problems else reasons.UNKNOWN
        return (reasons.FEASIBLE, "Unknown", reason, "nothing can be said before spec and model are known")
    verdict = situation.plan.verdict
    return (reasons.FEASIBLE, _FEASIBLE[verdict], verdict.value, situation.plan.message)


def _rendered(situation: Situation) -> _Finding:
    rendering = situation.rendering
    if rendering is None:
        return (reasons.RENDERED, "False", reasons.WITHHELD, "nothing is rendered before the model is judged")
    return (reasons.RENDERED, rendering.status, rendering.reason, rendering.message)


def _progressing(situation: Situation) -> _Finding:
    rollout = situation.rollout
    if rollout is None:
        return (reasons.PROGRESSING, "False", reasons.NOT_STARTED, "there is no Deployment")
    if rollout.current and rollout.progress_reason == "ProgressDeadlineExceeded":
        return (reasons.PROGRESSING, "False", reasons.DEADLINE_EXCEEDED, rollout.progress_message)
    if rollout.complete and situation.rollout_is_wanted:
        return (
            reasons.PROGRESSING,
            "False",
            reasons.COMPLETE,
            f"{rollout.updated} of {rollout.wanted} pods are current",
        )
    text = f"{rollout.updated} of {rollout.wanted} pods are current, {rollout.available} available"
    return (reasons.PROGRESSING, "True", reasons.ROLLING_OUT, text)


def _available(situation: Situation) -> _Finding:
    rollout = situation.rollout
    if rollout is None:
        return (reasons.AVAILABLE, "False", reasons.NOT_STARTED, "there is no Deployment")
    if rollout.available:
        text = f"{rollout.available} of {rollout.wanted} pods serve the model"
        return (reasons.AVAILABLE, "True", reasons.MODEL_SERVED, text)
    if rollout.wanted == 0:
        return (reasons.AVAILABLE, "False", reasons.SCALED_TO_ZERO, "zero replicas are asked for")
    return (reasons.AVAILABLE, "False", reasons.PODS_NOT_READY, f"none of {rollout.wanted} pods serves the model yet")


def _degraded(situation: Situation) -> _Finding:
    if situation.failure is not None:
        return (reasons.DEGRADED, "True", situation.failure.reason, situation.failure.message)
    if situation.shortage is not None:
        return (reasons.DEGRADED, "True", reasons.QUOTA_EXCEEDED, situation.shortage.message)
    if situation.rollout is not None and situation.rollout.failure_message:
        return (reasons.DEGRADED, "True", reasons.PODS_REFUSED, situation.rollout.failure_message)
    if situation.rendering is not None and situation.rendering.reason == reasons.STALE:
        return (reasons.DEGRADED, "True", reasons.STALE, situation.rendering.message)
    if situation.footing is not None:
        return (reasons.DEGRADED, "True", situation.footing.change.value, situation.footing.message)
    return (reasons.DEGRADED, "False", reasons.AS_EXPECTED, "")


def _ready(situation: Situation, found: list[_Finding]) -> _Finding:
    """Ready holds when what this generation wants is there and serves; otherwise it names the first obstacle."""
    _, model, feasible, rendered, _, available, degraded = found
    rollout = situation.rollout
    if situation.spec_problems:
        return (reasons.READY, "False", *found[0][2:])
    if rendered[1] != "True":
        for obstacle in (model, feasible):
            if obstacle[1] == "False" or (obstacle[1] == "Unknown" and situation.plan is None):
                return (reasons.READY, "False", *obstacle[2:])
        return (reasons.READY, "False", *rendered[2:])
    if rollout is not None and rollout.wanted == 0:
        return (reasons.READY, "False", reasons.SCALED_TO_ZERO, "zero replicas are asked for")
    if rollout is not None and rollout.complete and situation.rollout_is_wanted:
        return (reasons.READY, "True", reasons.MODEL_SERVED, available[3])
    if situation.failure is not None or situation.shortage is not None:
        return (reasons.READY, "False", *degraded[2:])
    if rollout is not None and rollout.available:
        return (reasons.READY, "False", reasons.ROLLING_OUT, found[4][3])
    return (reasons.READY, "False", reasons.PODS_NOT_READY, "the pods are being started")


def _plan_status(plan: Plan) -> PlanStatus | None:
    placement = plan.placement
    if placement is None:
        return None
    return PlanStatus(
        hash=plan.hash,
        image=plan.image,
        engine_version=plan.engine_version,
        revision=plan.revision,
        resource_name=placement.gpu_class.resource_name,
        gpu_product=placement.gpu_class.product,
        gpu_memory_bytes=placement.gpu_class.memory_bytes,
        nodes=list(placement.nodes[:MOST_NODES]),
        gpus_per_replica=placement.gpus_per_replica,
        nodes_per_replica=placement.nodes_per_replica,
        tensor_parallel_size=plan.tensor_parallel_size,
        pipeline_parallel_size=plan.pipeline_parallel_size,
        data_parallel_size=plan.data_parallel_size,
        max_model_len=plan.max_model_len,
        max_num_seqs=plan.max_num_seqs,
        args=list(plan.args),
        node_terms=[{key: list(values) for key, values in term.items()} for term in placement.node_selector_terms],
        checkpoint_bytes=plan.checkpoint_bytes,
        reasons=[
            ReasonStatus(flag=reason.flag[:253], value=reason.value[:1024], why=reason.why[:1024])
            for reason in plan.reasons[:MOST_REASONS]
        ],
    )


def _suggestions(plan: Plan) -> list[SuggestionStatus]:
    return [
        SuggestionStatus(summary=found.summary[:1024], patch=json.dumps(found.patch), effect=found.effect[:1024])
        for found in plan.suggestions[:MOST_SUGGESTIONS]
    ]


def as_written(status: VLLMDeploymentStatus) -> dict[str, Any]:
    """Return a status as JSON, without what is unset and without digits that nobody reads: 80.0 is 80."""
    written: dict[str, Any] = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {key: _rounded(value) for key, value in written.items()}


_HAS_DIGITS: Final = frozenset({dict, list, float})
"""Types of JSON in which there is something to round; each of the others would be a call for nothing."""


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(item) if type(item) in _HAS_DIGITS else item for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) if type(item) in _HAS_DIGITS else item for item in value]
    if isinstance(value, float):
        rounded = round(value, DECIMALS)
        return int(rounded) if rounded.is_integer() else rounded
    return value


def canonical(status: object) -> str:
    """Return a status as text in which equal statuses are equal: 80.0 comes back from the API server as 80."""
    text = _dumped(status)
    return _dumped(_whole(status)) if any(ending.search(text) for ending in _PERHAPS_WHOLE) else text


_dumped: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _whole(value: object) -> object:
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
