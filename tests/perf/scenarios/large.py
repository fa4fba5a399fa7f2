"""Scenario: a large cluster. Its convergence, a cold start on it, a change of one node, and admission."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.perf import burst, objects
from tests.perf.client import at_once
from tests.perf.figures import Section
from tests.perf.process import load
from tests.perf.scenarios.admission import admission
from tests.perf.scenarios.cold_start import restarted
from tests.perf.scenarios.node_change import one_node_changes
from tests.perf.stage import NAMESPACE, stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.perf.settings import Sizes
    from tests.perf.stage import Stage

MOST_MEMORY_MB = 256.0
MOST_LAG_MS = 200.0
LONGEST_COLD_START_SECONDS = 20.0


async def run(sizes: Sizes) -> AsyncIterator[Section]:
    """Build the cluster once, and measure on it."""
    where = f"{sizes.resources:,} resources, {sizes.nodes:,} nodes, {sizes.pods:,} pods of others"
    async with stage(node_count=sizes.nodes, operator=False) as place:
        pods = objects.pods(NAMESPACE, sizes.pods, on_nodes=sizes.nodes)
        await at_once(partial(place.client.create, objects.PODS.format(NAMESPACE), pod) for pod in pods)
        place.scene.start_operator()
        yield await _converged(place, sizes, where)
        load_before = load()
        restart = await restarted(place, sizes.resources, longest_seconds=LONGEST_COLD_START_SECONDS)
        restart.title, restart.load = f"Cold start: {where}", load_before
        yield restart
        yield await one_node_changes(place, sizes, where)
        async for section in admission(place, sizes, where):
            yield section


async def _converged(place: Stage, sizes: Sizes, where: str) -> Section:
    section = Section(f"Convergence: {where}", "All resources are created at once on a cluster that is there.", load())
    found = await burst.created(place, sizes.resources)
    section.note("converged after", found.seconds, "s")
    section.note("rate", found.per_second, "/s")
    section.equal("writes", sum(found.writes.values()), len(burst.CREATED) * sizes.resources)
    section.equal("reads of single objects or of their namespace", sum(found.reads.values()), 0)
    section.note("requests that the API server could not take and was asked again", found.failed)
    section.note("operator's CPU time per resource, planning included", found.cpu_ms_each, "ms")
    section.at_most("peak memory", found.peak_bytes / 1e6, MOST_MEMORY_MB, unit="MB")
    lag = 1000 * found.lag_p99_seconds
    section.at_most("event loop's lag, p99 (upper end of the bucket)", lag, MOST_LAG_MS, unit="ms")
    return section
