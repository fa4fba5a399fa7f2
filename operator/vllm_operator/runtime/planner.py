"""Plans on the inventory of the moment, each made once: what admission has just judged is there for the reconcile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.planning.decide import plan
from vllm_operator.planning.defaults import Capabilities

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.defaults import OperatorDefaults
    from vllm_operator.planning.plan import Plan

MOST_PLANS: Final = 256
"""Each takes some ten KiB."""


class Planner:
    """Asks the planner, unless the same was asked of the same inventory before.

    Many specs are alike: a fleet from one template, a resource and its admission, a rollout that is looked at again.
    """

    def __init__(self, defaults: OperatorDefaults, capabilities: Callable[[], Capabilities] = Capabilities) -> None:
        self._defaults = defaults
        self.capabilities = capabilities
        """What the cluster can do at this moment."""
        self._inventory: Inventory | None = None
        self._plans: dict[tuple[str, int, Capabilities], tuple[ModelFacts | None, Plan]] = {}

    def plan(self, key: str, spec: VLLMDeploymentSpec, facts: ModelFacts | None, inventory: Inventory) -> Plan:
        """Return the plan of one VLLMDeployment; its own pods and claims are credited to it."""
        credited, capabilities = inventory.crediting(key), self.capabilities()
        if credited is not inventory:
            return plan(spec, facts, credited, defaults=self._defaults, capabilities=capabilities)
        if inventory is not self._inventory:
            self._inventory = inventory
            self._plans.clear()
        # The facts are kept with the answer, so that their identity is nobody else's.
        question = (spec.model_dump_json(exclude_unset=True), id(facts), capabilities)
        if question not in self._plans:
            if len(self._plans) >= MOST_PLANS:
                del self._plans[next(iter(self._plans))]
            made = plan(spec, facts, inventory, defaults=self._defaults, capabilities=capabilities)
            self._plans[question] = (facts, made)
        return self._plans[question][1]
