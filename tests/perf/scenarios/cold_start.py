"""Scenario: the operator starts where everything is in place already, and finds that there is nothing to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.perf import burst
from tests.perf.audit import of_operator
from tests.perf.figures import Section
from tests.perf.process import load
from tests.perf.stage import stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.perf.settings import Sizes
    from tests.perf.stage import Stage

LONGEST_SECONDS = 5.0
MOST_WAIT_SECONDS = 120.0


async def run(sizes: Sizes) -> AsyncIterator[Section]:
    """Bring a burst about, restart the operator, and report what its start costs."""
    load_before = load()
    async with stage(node_count=sizes.nodes) as place:
        await burst.created(place, sizes.burst)
        section = await restarted(place, sizes.burst, longest_seconds=LONGEST_SECONDS)
    section.title = f"Cold start on {sizes.burst:,} converged resources and {sizes.nodes:,} nodes"
    section.load = load_before
    yield section


async def restarted(place: Stage, count: int, *, longest_seconds: float) -> Section:
    """Stop the operator, start it again, and wait until it has looked at every resource."""
    section = Section("Cold start", "From the start of the process until every resource has been looked at.")
    place.scene.stop_operator()
    before = len(place.audit.read())
    begun = time.perf_counter()
    place.scene.start_operator()
    ready = time.perf_counter() - begun
    await place.reconciled(count, seconds=MOST_WAIT_SECONDS)
    seconds = time.perf_counter() - begun
    cpu, peak = place.operator.cpu_seconds(), place.operator.peak_resident_bytes()
    await place.quiet()
    written = [request for request in of_operator(place.audit, since=before) if request.wrote]
    section.at_most("done after", seconds, longest_seconds, unit="s")
    section.note("ready after", ready, "s")
    section.equal("writes", len(written), 0)
    section.note("CPU time", cpu, "s")
    section.note("peak memory", peak / 1e6, "MB")
    section.note("memory afterwards", place.operator.resident_bytes() / 1e6, "MB")
    metrics = place.operator_metrics()
    lag = metrics.quantile("vllm_operator_loop_lag_seconds", 0.99)
    section.note("event loop's lag, p99 (upper end of the bucket)", 1000 * lag, "ms")
    return section
