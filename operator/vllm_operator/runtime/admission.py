"""The validating webhook: the same planner, over what is in memory. No network, no API call, no effect."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec import Admission
from vllm_operator.api.v1alpha1 import SpecError, parse_deployment
from vllm_operator.planning.decide import OperatorDefaults, plan
from vllm_operator.planning.plan import OomRisk, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.cluster.state import ClusterState
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.plan import Plan
    from vllm_operator.runtime.facts import FactsBook

_LOGGER = logging.getLogger(__name__)

WARNINGS_SHOWN: Final = 5
LONGEST_WARNING: Final = 250
"""The API server cuts all warnings together at 4 kB and recommends 120 characters for one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the webhook says: `refusal` is None when the object is admitted."""

    refusal: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Admissions:
    """Answers admission requests."""

    cluster: ClusterState
    facts: FactsBook
    synced: Callable[[], bool]
    defaults: OperatorDefaults

    def answer(self, obj: Mapping[str, Any], *, old: Mapping[str, Any] | None, namespace: str, name: str) -> Answer:
        """Judge one object.

        A fault of ours never blocks a user: it is logged, the object is admitted with a warning, and the reconciler
        judges it.
        """
        if old is not None and old.get("spec") == obj.get("spec"):
            return Answer()
        try:
            return self._judge(obj, f"{namespace}/{name}")
        except Exception:
            _LOGGER.exception("admission failed", extra={"key": f"{namespace}/{name}"})
            return Answer(warnings=("feasibility could not be judged at admission; see the condition Feasible",))

    def _judge(self, obj: Mapping[str, Any], key: str) -> Answer:
        wanted = {field: obj[field] for field in ("apiVersion", "kind", "metadata", "spec") if field in obj}
        try:
            deployment = parse_deployment(wanted)
        except SpecError as error:
            return Answer(refusal=str(error))
        if deployment.spec.policy.admission is Admission.OFF:
            return Answer()
        if not self.synced():
            return Answer(warnings=("the cluster's GPUs are not known yet; see the condition Feasible",))
        facts = self.facts.known(deployment, key)
        inventory = self.cluster.snapshot().crediting(key)
        judged = plan(deployment.spec, facts, inventory, defaults=self.defaults)
        refused = judged.verdict is Verdict.DOES_NOT_FIT and deployment.spec.policy.admission is Admission.ENFORCE
        if refused:
            return Answer(refusal=_refusal(judged))
        return Answer(warnings=_warnings(judged, facts))


def _refusal(judged: Plan) -> str:
    """Return the planner's message with each fix as a patch that can be pasted."""
    return judged.message


def _warnings(judged: Plan, facts: ModelFacts | None) -> tuple[str, ...]:
    found = []
    if facts is None:
        found.append("the model's facts are not known yet; see the condition ModelResolved")
    elif judged.verdict is not Verdict.FITS:
        found.append(f"{judged.verdict.value}: {judged.message}")
    if judged.oom_risk is not None and judged.oom_risk is not OomRisk.LOW and facts is not None:
        found.append(f"risk of running out of GPU memory: {judged.oom_risk.value}")
    found += judged.warnings
    return tuple(warning[:LONGEST_WARNING] for warning in dict.fromkeys(found))[:WARNINGS_SHOWN]
