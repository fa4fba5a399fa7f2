"""Resources that come and go for a long time leave neither entries nor memory behind."""

from __future__ import annotations

import os
import random
import re
from typing import TYPE_CHECKING

import pytest
from tests.controlplane.waiting import wait_until
from tests.plane.asked import Asked

if TYPE_CHECKING:
    from tests.controlplane.scene import Scene

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(3600)]

GENERATIONS = int(os.environ.get("SOAK_GENERATIONS", "2"))
LIVES = 20
"""Resources of one generation."""
MOST_GROWTH_BYTES = 24 * 2**20
"""From the second generation on, when code, caches of bounded size and the allocator's pools are there."""
RESYNC_SECONDS = "4"
"""Deletions are remembered until the next list."""


def kept(operator: Scene) -> dict[str, int]:
    """Return how much each store keeps."""
    found = re.findall(r'vllm_operator_kept_entries\{store="(\w+)"\} (\S+)', operator.metrics())
    return {store: int(float(entries)) for store, entries in found}


def resident_bytes(operator: Scene) -> float:
    (text,) = re.findall(r"^process_resident_memory_bytes (\S+)", operator.metrics(), re.MULTILINE)
    return float(text)


def test_what_is_kept_and_the_memory_follow_the_cluster(bare: Scene, bare_namespace: str) -> None:
    operator = bare.replica("vllm-operator-churn")
    operator.environment = {**operator.environment, "VLLM_OPERATOR_RESYNC_SECONDS": RESYNC_SECONDS}
    operator.start_operator()
    try:
        wait_until(lambda: "vllm_operator_leading 1.0" in operator.metrics(), "it leads")
        before = kept(operator)
        assert before.keys() >= {"resources", "children", "facts", "fleet", "queue", "reconciler", "events"}
        resident = []
        for generation in range(GENERATIONS):
            asked = Asked(bare.api, bare_namespace, random.Random(generation), prefix=f"g{generation}")
            asked.create(LIVES)
            asked.wait(seconds=60)
            assert kept(operator)["resources"] >= before["resources"] + LIVES
            while asked.contexts:
                asked.delete_one()
            asked.wait(seconds=60)
            wait_until(lambda: kept(operator) == before, f"as little as before is kept: {before}", seconds=30)
            resident.append(resident_bytes(operator))
        assert resident[-1] - resident[min(1, GENERATIONS - 1)] < MOST_GROWTH_BYTES
    finally:
        operator.stop_operator(kill=True)
