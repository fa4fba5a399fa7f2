"""What must not depend on the machine: how often the operator writes and reads in a small burst.

`make bench` measures the rest, and the same at full size.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.controlplane import build
from tests.perf import burst, objects
from tests.perf.scenarios.cold_start import restarted
from tests.perf.scenarios.node_change import one_node_changes
from tests.perf.settings import Sizes
from tests.perf.stage import stage

if TYPE_CHECKING:
    from tests.perf.burst import Applied, Burst
    from tests.perf.figures import Section

pytestmark = pytest.mark.control_plane

SIZES = Sizes(burst=100, nodes=50)
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of everything on one plane."""

    created: Burst
    applied: list[Applied]
    changed: Burst
    restarted: Section
    node_change: Section


@pytest.fixture(scope="module")
def measured() -> Measured:
    if not build.is_built() and not os.environ.get("REQUIRE_CONTROL_PLANE"):
        pytest.skip("the control plane is not built: run `make cluster-up` once, or set REQUIRE_CONTROL_PLANE=1")
    return asyncio.run(_measure())


async def _measure() -> Measured:
    async with stage(node_count=SIZES.nodes) as place:
        created = await burst.created(place, SIZES.burst)
        applied = await burst.applied(place)
        changed = await burst.changed(place, SIZES.burst)
        return Measured(
            created=created,
            applied=applied,
            changed=changed,
            restarted=await restarted(place, SIZES.burst, longest_seconds=PATIENCE_SECONDS),
            node_change=await one_node_changes(place, SIZES, "a test"),
        )


def test_a_new_resource_costs_one_write_an_object_and_one_status(measured: Measured) -> None:
    assert measured.created.writes == Counter(dict.fromkeys(burst.CREATED, SIZES.burst))


def test_a_change_costs_one_write_of_what_changes_and_one_status(measured: Measured) -> None:
    assert measured.changed.writes == Counter(dict.fromkeys(burst.CHANGED, SIZES.burst))


def test_a_burst_reads_no_single_object_and_lists_no_namespace(measured: Measured) -> None:
    assert measured.created.reads + measured.changed.reads == Counter()


def test_a_start_on_what_is_in_place_writes_nothing(measured: Measured) -> None:
    assert not measured.restarted.failures


def test_a_node_that_changes_concerns_only_those_who_depend_on_it(measured: Measured) -> None:
    assert not measured.node_change.failures


def test_the_bare_client_applies_what_the_operator_applied(measured: Measured) -> None:
    assert [one.resource["metadata"]["name"] for one in measured.applied] == [
        objects.resource("any", number)["metadata"]["name"] for number in range(SIZES.burst)
    ]
    for one in measured.applied:
        assert one.deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        assert one.service["spec"]["selector"]
        assert one.status["status"]["conditions"]
        assert "managedFields" not in one.deployment["metadata"]
