"""What a user asks for in the tests that break things, and whether the operator has answered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.controlplane.client import condition
from tests.controlplane.waiting import LIST_STEP_SECONDS, wait_until
from tests.plane.models import LLAMA_8B, deployment

if TYPE_CHECKING:
    import random

    from tests.controlplane.client import Api

CONTEXTS = (2048, 4096, 8192, 16384)


@dataclass
class Asked:
    """The resources of one namespace, the context that each asks for, and how often it was edited."""

    api: Api
    namespace: str
    dice: random.Random
    prefix: str = "m"
    contexts: dict[str, int] = field(default_factory=dict)
    edits: Counter[str] = field(default_factory=Counter)
    deleted: list[str] = field(default_factory=list)

    def create(self, count: int) -> None:
        for _ in range(count):
            name = f"{self.prefix}-{len(self.contexts) + len(self.deleted):04d}"
            context = self.dice.choice(CONTEXTS)
            self.api.create(deployment(self.namespace, name=name, model=LLAMA_8B, workload={"contextLength": context}))
            self.contexts[name] = context

    def edit_one(self) -> None:
        name = self.dice.choice(list(self.contexts))
        context = self.dice.choice([length for length in CONTEXTS if length != self.contexts[name]])
        patch = {"spec": {"workload": {"contextLength": context}}}
        self.api.patch("VLLMDeployment", name, patch, self.namespace)
        self.contexts[name] = context
        self.edits[name] += 1

    def delete_one(self) -> None:
        name = self.dice.choice(list(self.contexts))
        self.api.delete("VLLMDeployment", name, self.namespace)
        del self.contexts[name]
        self.deleted.append(name)

    def wait(self, *, seconds: float = 30.0) -> None:
        """Wait until every resource is told of, has its Service, and what was deleted is gone."""
        for name in self.contexts:
            self.api.wait("VLLMDeployment", name, is_told, self.namespace, seconds=seconds)
        for name in self.deleted:
            self.api.wait_gone("Deployment", name, self.namespace, seconds=seconds)
        wait_until(self._services_are_there, "a Service each", seconds=seconds, step_seconds=LIST_STEP_SECONDS)

    def _services_are_there(self) -> bool:
        found = {obj["metadata"]["name"] for obj in self.api.list("Service", self.namespace)}
        return self.contexts.keys() <= found and found.isdisjoint(self.deleted)

    def check(self) -> None:
        """Check that each resource has its objects, once and as asked for, and that nothing else is there."""
        found = self.api.list("VLLMDeployment", self.namespace)
        owners = {obj["metadata"]["name"]: obj["metadata"]["uid"] for obj in found}
        assert owners.keys() == self.contexts.keys()
        for kind in ("Deployment", "Service"):
            children = {obj["metadata"]["name"]: obj for obj in self.api.list(kind, self.namespace)}
            assert children.keys() == self.contexts.keys(), kind
            for name, obj in children.items():
                assert [reference["uid"] for reference in obj["metadata"]["ownerReferences"]] == [owners[name]]
        for name, context in self.contexts.items():
            rendered = self.api.get("Deployment", name, self.namespace)
            arguments = rendered["spec"]["template"]["spec"]["containers"][0]["args"]
            assert arguments[arguments.index("--max-model-len") + 1] == str(context)


def is_told(obj: dict[str, Any]) -> bool:
    """Whether the status speaks of the newest spec, and of its objects as applied."""
    status = obj.get("status") or {}
    current = status.get("observedGeneration") == obj["metadata"]["generation"]
    return current and condition(obj, "Rendered").get("status") == "True"
