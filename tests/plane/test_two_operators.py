"""Two operators: one reconciles, both answer the webhook, and the other takes over when it must, never before."""

from __future__ import annotations

import os
import random
import time
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.audit import AuditTrail, Request
from tests.controlplane.client import Refused
from tests.controlplane.waiting import wait_until
from tests.plane.asked import Asked
from tests.plane.models import LLAMA_405B, deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

TAKE_OVER_SECONDS = 20.0
HAND_OVER_SECONDS = 8.0
"""Drain, release and the next look, two seconds later at most, on two busy cores: half of what an expiry takes."""
SEED = int(os.environ.get("SOAK_SEED", "9"))
HELD_UP: dict[str, Callable[[Scene], object]] = {"killed": lambda operator: operator.stop_operator(kill=True)}
if "SOAK_KILLS" in os.environ:
    HELD_UP["stopped"] = lambda operator: operator.pause_operator()


@pytest.fixture
def pair(bare: Scene) -> Iterator[tuple[Scene, Scene]]:
    """Two operators, of which the first leads."""
    first, second = bare.replica("vllm-operator-a"), bare.replica("vllm-operator-b")
    try:
        first.start_operator()
        wait_until(lambda: leads(first), "the first leads")
        second.start_operator()
        yield first, second
    finally:
        bare.remove_webhook()
        for operator in (first, second):
            if operator.process is not None:
                operator.stop_operator(kill=True)


def leads(operator: Scene) -> bool:
    return "vllm_operator_leading 1.0" in operator.metrics()


def written_by(requests: list[Request]) -> list[str]:
    """Return who wrote, in order, each once for as long as nobody else did."""
    ordered = sorted(requests, key=lambda request: request.begun)
    return [agent.split()[-1] for agent, _ in groupby(ordered, key=lambda request: request.agent)]


def assert_no_two_wrote_at_once(requests: list[Request]) -> None:
    ordered = sorted(requests, key=lambda request: request.begun)
    for before, after in pairwise(ordered):
        if before.agent != after.agent:
            answered = max(one.ended for one in ordered if one.agent == before.agent and one.begun <= after.begun)
            assert answered <= after.begun, f"{before} and {after}"


def assert_webhook_refuses(operator: Scene, wanted: dict[str, Any]) -> None:
    operator.install_webhook()

    def refused() -> bool:
        # The API server takes a new configuration within a second or so.
        try:
            operator.api.create(wanted, dry_run=True)
        except Refused as error:
            return "GiB" in error.message
        return False

    wait_until(refused, f"a refusal by {operator.name}", seconds=10)


@pytest.mark.parametrize("how", HELD_UP.keys())
def test_the_other_takes_over_in_time_and_never_before(
    bare: Scene, bare_namespace: str, pair: tuple[Scene, Scene], how: str
) -> None:
    first, second = pair
    asked = Asked(bare.api, bare_namespace, random.Random(SEED))
    trail = AuditTrail(bare.plane.audit_log)
    asked.create(5)
    asked.wait()
    too_large = deployment(bare_namespace, name="too-large", model=LLAMA_405B, gpu={"products": ["*T4*"]})
    for operator in pair:
        assert_webhook_refuses(operator, too_large)
    bare.remove_webhook()

    asked.create(5)
    HELD_UP[how](first)
    began = time.monotonic()
    asked.create(5)
    wait_until(lambda: leads(second), "the second leads", seconds=TAKE_OVER_SECONDS)
    asked.wait(seconds=TAKE_OVER_SECONDS - (time.monotonic() - began))

    if how == "stopped":
        first.resume_operator()
        wait_until(lambda: not leads(first), "the first has noticed")
    else:
        first.start_operator()
    asked.edit_one()
    asked.create(5)
    asked.wait()
    asked.check()
    writes = [request for request in trail.writes() if request.namespace == bare_namespace]
    assert written_by(writes) == [first.name, second.name]
    assert_no_two_wrote_at_once(writes)

    asked.create(10)
    began = time.monotonic()
    assert second.stop_operator() == 0
    wait_until(lambda: leads(first), "the first leads again", seconds=HAND_OVER_SECONDS)
    assert time.monotonic() - began < HAND_OVER_SECONDS
    asked.wait()
    asked.check()
    writes = [request for request in trail.writes() if request.namespace == bare_namespace]
    assert written_by(writes) in ([first.name, second.name], [first.name, second.name, first.name])
    assert_no_two_wrote_at_once(writes)
