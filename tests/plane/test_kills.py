"""Killed at any moment and started again: what was asked for is there, each object once, and nothing besides."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.audit import AuditTrail
from tests.controlplane.client import condition
from tests.controlplane.waiting import held_within, wait_until
from tests.plane.models import LLAMA_8B, deployment

if TYPE_CHECKING:
    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("SOAK_KILLS", "20"))
SEED = int(os.environ.get("SOAK_SEED", "9"))
NEW_BEFORE, NEW_AFTER = 3, 2
"""Resources that are made while no operator runs, and once it has begun to write."""
MOST_WRITES = 3 * (NEW_BEFORE + NEW_AFTER) + 2
"""What one life has to write: Deployment, Service and status of each that is new, two of one that was edited."""
CONTEXTS = (2048, 4096, 8192, 16384)
LIFE_SECONDS = 15.0


@dataclass
class Asked:
    """What a user has asked for so far, and how often each was edited."""

    api: Api
    namespace: str
    dice: random.Random
    contexts: dict[str, int] = field(default_factory=dict)
    edits: Counter[str] = field(default_factory=Counter)
    deleted: list[str] = field(default_factory=list)

    def create(self, count: int) -> None:
        for _ in range(count):
            name = f"m-{len(self.contexts) + len(self.deleted):04d}"
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


def is_told(obj: dict[str, Any]) -> bool:
    """Whether the status speaks of the newest spec, and of its objects as applied."""
    status = obj.get("status") or {}
    current = status.get("observedGeneration") == obj["metadata"]["generation"]
    return current and condition(obj, "Rendered").get("status") == "True"


def test_kills_at_any_moment_of_a_burst_lose_and_repeat_nothing(bare: Scene, bare_namespace: str) -> None:
    api, namespace = bare.api, bare_namespace
    dice = random.Random(SEED)
    asked = Asked(api, namespace, dice)
    trail = AuditTrail(bare.plane.audit_log)
    killed_after: Counter[int] = Counter()
    for _ in range(KILLS):
        asked.create(NEW_BEFORE)
        asked.edit_one()
        if len(asked.contexts) > NEW_BEFORE:
            asked.delete_one()
        before = len(trail.writes())
        bare.spawn_operator()
        wait_until(lambda before=before: len(trail.writes()) > before, "a first write", seconds=LIFE_SECONDS)
        asked.create(NEW_AFTER)
        last = before + dice.randint(1, MOST_WRITES)
        held_within(lambda last=last: len(trail.writes()) >= last, seconds=0.5)
        bare.stop_operator(kill=True)
        killed_after[len(trail.writes()) - before] += 1
    assert len(killed_after) > min(KILLS, MOST_WRITES) / 4, f"the moments hardly differed: {killed_after}"

    bare.start_operator()
    for name in asked.contexts:
        api.wait("VLLMDeployment", name, is_told, namespace)
    for name in asked.deleted:
        api.wait_gone("Deployment", name, namespace)
    wait_until(lambda: len(api.list("Service", namespace)) == len(asked.contexts), "a Service each")

    owners = {obj["metadata"]["name"]: obj["metadata"]["uid"] for obj in api.list("VLLMDeployment", namespace)}
    assert owners.keys() == asked.contexts.keys()
    for kind in ("Deployment", "Service"):
        found = {obj["metadata"]["name"]: obj for obj in api.list(kind, namespace)}
        assert found.keys() == asked.contexts.keys(), kind
        for name, obj in found.items():
            assert [reference["uid"] for reference in obj["metadata"]["ownerReferences"]] == [owners[name]]
    for name, context in asked.contexts.items():
        arguments = api.get("Deployment", name, namespace)["spec"]["template"]["spec"]["containers"][0]["args"]
        assert arguments[arguments.index("--max-model-len") + 1] == str(context)
    assert_nothing_was_written_twice(trail, asked)


def assert_nothing_was_written_twice(trail: AuditTrail, asked: Asked) -> None:
    """Each object was made once, deleted ones never again, and written once more for each edit at most."""
    mine = [request for request in trail.writes() if request.namespace == asked.namespace and request.code < 300]
    made = Counter((request.resource, request.name) for request in mine if request.made_it)
    assert not {which: times for which, times in made.items() if times > 1 and which[0] != "events"}
    rendered = Counter(request.name for request in mine if request.resource == "deployments")
    assert not {name: times for name, times in rendered.items() if times > 1 + asked.edits[name]}


def test_a_restart_after_all_kills_writes_nothing(bare: Scene, bare_namespace: str) -> None:
    api, namespace = bare.api, bare_namespace
    asked = Asked(api, namespace, random.Random(SEED))
    asked.create(NEW_BEFORE)
    bare.start_operator()
    for name in asked.contexts:
        api.wait("VLLMDeployment", name, is_told, namespace)
    wait_until(lambda: len(api.list("Service", namespace)) == len(asked.contexts), "a Service each")
    bare.stop_operator(kill=True)
    trail = AuditTrail(bare.plane.audit_log)

    bare.start_operator()
    # One that is new is reconciled behind the others: when its status is there, they have been looked at.
    asked.create(1)
    (latest,) = list(asked.contexts)[-1:]
    api.wait("VLLMDeployment", latest, is_told, namespace)

    of_others = [request for request in trail.writes() if request.name not in (latest, "") and request.code != 409]
    assert of_others == []
