"""The answer to `kubectl apply`: the planner's verdict from memory alone, never a guess and never an error of ours."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.api.v1alpha1 import Admission, SpecError, parse_deployment
from vllm_operator.planning.plan import OomRisk, Verdict
from vllm_operator.render.errors import RenderError
from vllm_operator.render.objects import render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.api.v1alpha1 import VLLMDeployment
    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.planning.plan import Plan
    from vllm_operator.runtime.facts import FactsBook
    from vllm_operator.runtime.planner import Planner

_LOGGER = logging.getLogger(__name__)

MOST_WARNINGS = 8
LONGEST_WARNING = 500
"""The API server cuts all warnings together at 4 KiB."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`refusal` is None when the resource is admitted."""

    refusal: str | None = None
    warnings: tuple[str, ...] = ()


class Gatekeeper:
    """Judges VLLMDeployments as they are written."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Inventory],
        facts: FactsBook,
        planner: Planner,
        calibrate: Callable[[Plan, VLLMDeploymentSpec], Plan],
        quota_warnings: Callable[[str, Plan], tuple[str, ...]],
        synced: Callable[[], bool],
    ) -> None:
        self._snapshot = snapshot
        self._facts = facts
        self._planner = planner
        self._calibrate = calibrate
        self._quota_warnings = quota_warnings
        self._synced = synced

    def review(self, new: Mapping[str, Any], old: Mapping[str, Any] | None, *, dry_run: bool) -> Answer:
        """Answer one request. A fault of ours admits with a warning: the reconciler judges again."""
        try:
            return self._review(new, old, dry_run=dry_run)
        except Exception as error:
            _LOGGER.exception("admission failed", extra={"reason": type(error).__name__})
            return Answer(warnings=("the operator could not judge this resource; its conditions will say more",))

    def _review(self, new: Mapping[str, Any], old: Mapping[str, Any] | None, *, dry_run: bool) -> Answer:
        if old is not None and old.get("spec") == new.get("spec"):
            return Answer()
        if (new.get("metadata") or {}).get("deletionTimestamp"):
            return Answer()
        try:
            deployment = parse_deployment(new)
        except SpecError as error:
            return Answer("; ".join(f"{path}: {message}" for path, message in error.problems))
        if deployment.spec.policy.admission is Admission.OFF:
            return Answer()
        if not self._synced():
            return Answer(warnings=("the operator has only just started and has not judged whether this fits",))
        return self._judge(deployment, dry_run=dry_run)

    def _judge(self, deployment: VLLMDeployment, *, dry_run: bool) -> Answer:
        metadata, spec = deployment.metadata, deployment.spec
        key = f"{metadata.namespace}/{metadata.name}"
        facts = self._facts.known(key, spec.model)
        plan = self._calibrate(self._planner.plan(key, spec, facts, self._snapshot()), spec)
        unknown: tuple[str, ...] = ()
        if facts is None:
            if not dry_run:
                self._facts.prefetch(spec.model)
            unknown = (f"nothing is known of {spec.model.uri} yet; the condition ModelResolved will say more",)
        if plan.verdict is Verdict.DOES_NOT_FIT:
            if spec.policy.admission is Admission.ENFORCE:
                return Answer(plan.message)
            return Answer(warnings=_shortened((_verdict(plan), *plan.warnings)))
        if (problem := _overlay_problem(plan, deployment)) is not None:
            return Answer(problem)
        short = self._quota_warnings(key, plan)
        return Answer(warnings=_shortened((*unknown, *short, *_doubts(plan, known=facts is not None), *plan.warnings)))


def _doubts(plan: Plan, *, known: bool) -> tuple[str, ...]:
    """Return the verdict in words, unless it fits for certain."""
    certain = plan.verdict is Verdict.FITS and plan.oom_risk in (OomRisk.LOW, None)
    return () if certain or not known else (_verdict(plan),)


def _verdict(plan: Plan) -> str:
    risk = f", risk of running out of memory {plan.oom_risk.value}" if plan.oom_risk not in (OomRisk.LOW, None) else ""
    return f"{plan.verdict.value}{risk}: {plan.message}"


def _overlay_problem(plan: Plan, deployment: VLLMDeployment) -> str | None:
    """Return what is wrong with `spec.podTemplate`, which only rendering finds."""
    if not deployment.spec.pod_template or not plan.renderable:
        return None
    metadata = deployment.metadata
    try:
        render(plan, deployment, namespace=metadata.namespace, name=metadata.name or "model", uid=None)
    except RenderError as error:
        return str(error)
    return None


def _shortened(warnings: tuple[str, ...]) -> tuple[str, ...]:
    distinct = tuple(dict.fromkeys(warning for warning in warnings if warning))
    return tuple(warning[:LONGEST_WARNING] for warning in distinct[:MOST_WARNINGS])
