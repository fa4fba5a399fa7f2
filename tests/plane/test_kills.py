"""Killed at any moment and started again: what was asked for is there, each object once, and nothing besides."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.controlplane.audit import AuditTrail
from tests.controlplane.waiting import held_within, wait_until
from tests.plane.asked import Asked, is_told

if TYPE_CHECKING:
    from tests.controlplane.scene import Scene

KILLS = int(os.environ.get("SOAK_KILLS", "20"))
SEED = int(os.environ.get("SOAK_SEED", "9"))
NEW_BEFORE, NEW_AFTER = 3, 2
"""Resources that are made while no operator runs, and once it has begun to write."""
MOST_WRITES = 3 * (NEW_BEFORE + NEW_AFTER) + 2
"""What one life has to write: Deployment, Service and status of each that is new, two of one that was edited."""
START_SECONDS = 15.0
"""From the start of the process to its first write, on two busy cores."""
LOOK_SECONDS = 0.03
"""What each resource adds to that: those that are there are looked at before those that are new.

A cold start on 1,000 takes 5 s at most (`docs/reference/benchmarks.md`); six times that where others use the cores.
"""

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300 + 15 * KILLS)]


def test_kills_at_any_moment_of_a_burst_lose_and_repeat_nothing(bare: Scene, bare_namespace: str) -> None:
    dice = random.Random(SEED)
    asked = Asked(bare.api, bare_namespace, dice)
    trail = AuditTrail(bare.plane.audit_log)
    killed_after: Counter[int] = Counter()
    for _ in range(KILLS):
        asked.create(NEW_BEFORE)
        asked.edit_one()
        if len(asked.contexts) > NEW_BEFORE:
            asked.delete_one()
        before = len(trail.writes())
        bare.spawn_operator()
        wait_until(lambda before=before: len(trail.writes()) > before, "a first write", seconds=start_seconds(asked))
        asked.create(NEW_AFTER)
        last = before + dice.randint(1, MOST_WRITES)
        held_within(lambda last=last: len(trail.writes()) >= last, seconds=0.5)
        bare.stop_operator(kill=True)
        killed_after[len(trail.writes()) - before] += 1
    assert len(killed_after) > min(KILLS, MOST_WRITES) / 4, f"the moments hardly differed: {killed_after}"

    bare.start_operator()
    asked.wait(seconds=2 * start_seconds(asked))
    asked.check()
    assert_nothing_was_written_twice(trail, asked)


def start_seconds(asked: Asked) -> float:
    """Return how long an operator may take to its first write where so much is there."""
    return START_SECONDS + LOOK_SECONDS * len(asked.contexts)


def assert_nothing_was_written_twice(trail: AuditTrail, asked: Asked) -> None:
    """Each object was made once, deleted ones never again, and written once more for each edit at most."""
    mine = [request for request in trail.writes() if request.namespace == asked.namespace and request.code < 300]
    made = Counter((request.resource, request.name) for request in mine if request.made_it)
    assert not {which: times for which, times in made.items() if times > 1 and which[0] != "events"}
    rendered = Counter(request.name for request in mine if request.resource == "deployments")
    too_often = {name: (times, asked.edits[name]) for name, times in rendered.items() if times > 1 + asked.edits[name]}
    assert not too_often, f"{len(too_often)} Deployments (writes, edits): {too_often}"


def test_a_restart_after_a_kill_writes_nothing_that_is_there(bare: Scene, bare_namespace: str) -> None:
    asked = Asked(bare.api, bare_namespace, random.Random(SEED))
    asked.create(NEW_BEFORE)
    bare.start_operator()
    asked.wait()
    bare.stop_operator(kill=True)
    trail = AuditTrail(bare.plane.audit_log)

    bare.start_operator()
    # One that is new is reconciled behind the others: when its status is there, they have been looked at.
    asked.create(1)
    latest = list(asked.contexts)[-1]
    bare.api.wait("VLLMDeployment", latest, is_told, bare_namespace)

    mine = [request for request in trail.writes() if request.namespace == bare_namespace and request.code != 409]
    assert [request for request in mine if request.name not in (latest, "")] == []
