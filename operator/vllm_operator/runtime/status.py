"""The status that a reconcile arrives at: pure, from what was decided and what the pods do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from vllm_operator.api import conditions as c
from vllm_operator.api.status import (
    Condition,
    PlanStatus,
    ReasonStatus,
    SuggestionStatus,
    UtilizationReport,
    VLLMDeploymentStatus,
)
from vllm_operator.models.errors import (
    ModelConfigError,
    ModelError,
    ModelGated,
    ModelNotFound,
    ModelUnreadable,
    SourceOffline,
)
from vllm_operator.planning.plan import Plan, Verdict
from vllm_operator.render.labels import selector_text
from vllm_operator.runtime.facts import ReferenceMissing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_operator.api.status import FeasibilityReport
    from vllm_operator.runtime.children import Rollout

Truth = Literal["True", "False", "Unknown"]

_MODEL_REASONS: Final[tuple[tuple[type[ModelError], str], ...]] = (
    (ModelNotFound, c.MODEL_NOT_FOUND),
    (ModelGated, c.MODEL_GATED),
    (SourceOffline, c.SOURCE_OFFLINE),
    (ModelUnreadable, c.MODEL_UNREADABLE),
    (ModelConfigError, c.MODEL_UNREADABLE),
    (ReferenceMissing, c.REFERENCE_MISSING),
)
_NODES_SHOWN: Final = 16
_LONGEST_MESSAGE: Final = 2000
_DIGITS: Final = 3
"""Decimals of GiB and per cent in the status: a change that nobody can see is no change."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition before it has a time."""

    type: str
    status: Truth
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a reconcile found and did."""

    name: str
    generation: int
    plan: Plan | None
    """The plan in force: the pinned one where a workload already runs by it."""
    findings: tuple[Finding, ...]
    rollout: Rollout | None = None
    warnings: tuple[str, ...] = ()


def status_of(outcome: Outcome, previous: VLLMDeploymentStatus, *, now: str) -> dict[str, Any]:
    """Return the status as the API server is to have it; the previous one when nothing changed but the time."""
    conditions: list[Condition] = list(previous.conditions)
    for finding in outcome.findings:
        conditions = c.set_condition(
            conditions,
            finding.type,
            finding.status,
            reason=finding.reason,
            message=finding.message[:_LONGEST_MESSAGE],
            observed_generation=outcome.generation,
            now=now,
        )
    order = {condition_type: index for index, condition_type in enumerate(c.TYPES)}
    conditions.sort(key=lambda condition: order.get(condition.type, len(order)))
    plan, rollout = outcome.plan, outcome.rollout
    report = plan.feasibility if plan else None
    status = VLLMDeploymentStatus(
        observed_generation=outcome.generation,
        conditions=conditions,
        verdict=plan.verdict.value if plan else None,
        oom_risk=plan.oom_risk.value if plan and plan.oom_risk else None,
        feasibility=report,
        utilization=_utilization(report) if report else None,
        memory=plan.memory if plan else None,
        plan=plan_status(plan) if plan and plan.placement else None,
        suggestions=_suggestions(plan) if plan else [],
        warnings=[warning[:_LONGEST_MESSAGE] for warning in _distinct(outcome.warnings, plan)][:32],
        replicas=rollout.replicas if rollout else 0,
        ready_replicas=min(rollout.available, rollout.updated) if rollout and rollout.current else 0,
        selector=selector_text(outcome.name),
    )
    dumped = status.model_dump(by_alias=True, exclude_none=True, mode="json")
    rounded: dict[str, Any] = _rounded(dumped)
    return rounded


def plan_status(plan: Plan) -> PlanStatus:
    """Return the frozen form of a plan."""
    placement = plan.placement
    assert placement is not None
    gpu = placement.gpu_class
    return PlanStatus(
        hash=plan.hash,
        image=plan.image,
        engine_version=plan.engine_version,
        revision=plan.revision,
        resource_name=gpu.resource_name,
        gpu_product=gpu.product,
        gpu_memory_bytes=gpu.memory_bytes,
        nodes=list(placement.nodes[:_NODES_SHOWN]),
        gpus_per_replica=placement.gpus_per_replica,
        tensor_parallel_size=plan.tensor_parallel_size,
        pipeline_parallel_size=plan.pipeline_parallel_size,
        data_parallel_size=plan.data_parallel_size,
        max_model_len=plan.max_model_len,
        max_num_seqs=plan.max_num_seqs,
        args=list(plan.args),
        node_terms=[{key: list(values) for key, values in term.items()} for term in placement.node_selector_terms],
        checkpoint_bytes=plan.checkpoint_bytes,
        reasons=[ReasonStatus(flag=r.flag, value=r.value[:1024], why=r.why[:1024]) for r in plan.reasons],
    )


def model_finding(outcome: object) -> Finding:
    """Return the ModelResolved condition of what is known of the model."""
    if outcome is None:
        return Finding(c.MODEL_RESOLVED, "Unknown", c.RESOLVING, "the model's facts are being loaded")
    if isinstance(outcome, ModelError):
        reason = next((name for kind, name in _MODEL_REASONS if isinstance(outcome, kind)), c.MODEL_UNREADABLE)
        return Finding(c.MODEL_RESOLVED, "False", reason, str(outcome))
    return Finding(c.MODEL_RESOLVED, "True", c.RESOLVED, "the model's facts are known")


def feasible_finding(plan: Plan) -> Finding:
    """Return the Feasible condition of a plan."""
    truth: Truth = "True"
    if plan.verdict is Verdict.DOES_NOT_FIT:
        truth = "False"
    elif plan.verdict is Verdict.UNKNOWN:
        truth = "Unknown"
    return Finding(c.FEASIBLE, truth, plan.verdict.value, plan.message)


def workload_findings(rollout: Rollout | None, *, withheld: str | None) -> tuple[Finding, ...]:
    """Return Progressing, Available, Degraded and Ready from what the Deployment reports.

    `withheld` says why there is no workload of this generation, when there is none.
    """
    if rollout is None:
        reason, message = (c.WITHHELD, withheld) if withheld else (c.NOT_STARTED, "the workload is not there yet")
        starting: Truth = "False" if withheld else "True"
        return (
            Finding(c.PROGRESSING, starting, reason, message),
            Finding(c.AVAILABLE, "False", reason, message),
            Finding(c.DEGRADED, "False", c.AS_EXPECTED, ""),
            Finding(c.READY, "False", reason, message),
        )
    return (
        _progressing(rollout),
        _available(rollout),
        _degraded(rollout),
        _ready(rollout, withheld),
    )


def _progressing(rollout: Rollout) -> Finding:
    if rollout.progress_reason == "ProgressDeadlineExceeded":
        return Finding(c.PROGRESSING, "False", c.DEADLINE_EXCEEDED, rollout.progress_message)
    if rollout.complete:
        return Finding(c.PROGRESSING, "False", c.COMPLETE, "all pods are of this generation")
    return Finding(c.PROGRESSING, "True", c.ROLLING_OUT, _counts(rollout))


def _available(rollout: Rollout) -> Finding:
    if rollout.available > 0:
        return Finding(c.AVAILABLE, "True", c.MODEL_SERVED, _counts(rollout))
    return Finding(c.AVAILABLE, "False", c.PODS_NOT_READY, _counts(rollout))


def _degraded(rollout: Rollout) -> Finding:
    if rollout.failure_message:
        return Finding(c.DEGRADED, "True", c.PODS_REFUSED, rollout.failure_message)
    if rollout.progress_reason == "ProgressDeadlineExceeded":
        return Finding(c.DEGRADED, "True", c.DEADLINE_EXCEEDED, rollout.progress_message)
    return Finding(c.DEGRADED, "False", c.AS_EXPECTED, "")


def _ready(rollout: Rollout, withheld: str | None) -> Finding:
    if withheld:
        return Finding(
            c.READY, "False", c.WITHHELD, f"{withheld}; the workload of an earlier generation is left as it is"
        )
    if rollout.wanted == 0 and rollout.current:
        return Finding(c.READY, "False", c.SCALED_TO_ZERO, "scaled to zero")
    if rollout.complete:
        return Finding(c.READY, "True", c.MODEL_SERVED, _counts(rollout))
    reason = c.ROLLING_OUT if rollout.available else c.PODS_NOT_READY
    return Finding(c.READY, "False", reason, _counts(rollout))


def _counts(rollout: Rollout) -> str:
    return f"{min(rollout.available, rollout.updated)} of {rollout.wanted} pods of this generation serve the model"


def _suggestions(plan: Plan) -> list[SuggestionStatus]:
    return [
        SuggestionStatus(summary=s.summary, patch=json.dumps(s.patch, sort_keys=True), effect=s.effect)
        for s in plan.suggestions[:5]
    ]


def _utilization(report: FeasibilityReport) -> UtilizationReport:
    return UtilizationReport(
        weights_percent=report.weights_share,
        required_percent=report.required_share,
        kv_cache_percent=report.kv_cache_share,
    )


def _distinct(warnings: Sequence[str], plan: Plan | None) -> list[str]:
    return list(dict.fromkeys([*warnings, *(plan.warnings if plan else ())]))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
