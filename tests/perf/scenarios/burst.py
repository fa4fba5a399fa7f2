"""Scenario: a thousand resources at once, in pairs with a bare client."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from tests.perf import burst
from tests.perf.figures import Bar, Section
from tests.perf.process import load
from tests.perf.stage import stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.perf.burst import Applied, Burst
    from tests.perf.settings import Sizes

NODES = 100
LEAST_SHARE = 0.75
LONGEST_DEPLOYMENTS_SECONDS = 15.0
MOST_CPU_MS_CREATED = 9.0
MOST_CPU_MS_CHANGED = 6.0


@dataclass
class _Runs:
    """What was measured of one kind of burst, one entry a pair."""

    bursts: list[Burst] = field(default_factory=list)
    bare_seconds: list[float] = field(default_factory=list)

    @property
    def shares(self) -> list[float]:
        """The operator's rate in shares of the bare client's, pair by pair."""
        return [bare / burst.seconds for burst, bare in zip(self.bursts, self.bare_seconds, strict=True)]


async def run(sizes: Sizes) -> AsyncIterator[Section]:
    """Measure pairs in alternating order and yield their medians."""
    created, changed = _Runs(), _Runs()
    load_before = load()
    found: tuple[list[Applied], list[Applied]] | None = None
    for number in range(sizes.pairs):
        if number % 2 and found is not None:
            await _bare(created, changed, found)
        found = await _with_operator(created, changed, sizes.burst)
        if not number % 2:
            await _bare(created, changed, found)
    yield _section(
        f"Burst: {sizes.burst:,} resources are created",
        "A Deployment, a Service and a status each.",
        created,
        load_before,
        each=burst.CREATED,
        cpu_ms=MOST_CPU_MS_CREATED,
    )
    yield _section(
        f"Burst: {sizes.burst:,} resources are changed",
        "A shorter context each, which changes the Deployment and the status: a burst without Services.",
        changed,
        load_before,
        each=burst.CHANGED,
        cpu_ms=MOST_CPU_MS_CHANGED,
    )


async def _with_operator(created: _Runs, changed: _Runs, count: int) -> tuple[list[Applied], list[Applied]]:
    async with stage(node_count=NODES) as place:
        created.bursts.append(await burst.created(place, count))
        after_creation = await burst.applied(place)
        changed.bursts.append(await burst.changed(place, count))
        return after_creation, await burst.applied(place)


async def _bare(created: _Runs, changed: _Runs, found: tuple[list[Applied], list[Applied]]) -> None:
    async with stage(node_count=NODES, operator=False) as place:
        created.bare_seconds.append(await burst.bare_created(place.client, found[0]))
        changed.bare_seconds.append(await burst.bare_changed(place.client, found[1]))


def _section(
    title: str, text: str, runs: _Runs, load_before: float, *, each: tuple[str, ...], cpu_ms: float
) -> Section:
    section = Section(title, f"{text} {len(runs.bursts)} pairs; medians.", load=load_before)
    bursts = runs.bursts
    section.at_least(
        "rate, in shares of a bare client's that applies the same objects",
        median(runs.shares),
        LEAST_SHARE,
        kind=Bar.ASSERTED,
    )
    section.note("rate", median(one.per_second for one in bursts), "/s")
    section.note("rate of the bare client", bursts[0].count / median(runs.bare_seconds), "/s")
    deployments_seconds = median(one.deployments_seconds for one in bursts)
    if burst.SERVICES in each:
        # A slow Service must not hold up another resource's Deployment.
        section.at_most("all Deployments are there after", deployments_seconds, LONGEST_DEPLOYMENTS_SECONDS, unit="s")
    else:
        section.note("all Deployments are there after", deployments_seconds, "s")
    for kind in each:
        section.equal(f"writes: {kind}", [one.writes[kind] for one in bursts], [one.count for one in bursts])
    others = [sum(one.writes.values()) - sum(one.writes[kind] for kind in each) for one in bursts]
    section.equal("other writes", others, [0] * len(bursts))
    section.equal(
        "reads of single objects or of their namespace", [sum(one.reads.values()) for one in bursts], [0] * len(bursts)
    )
    section.at_most(
        "operator's CPU time per resource, planning included",
        median(one.cpu_ms_each for one in bursts),
        cpu_ms,
        unit="ms",
    )
    section.note("from a request to its Deployment, p50", median(one.wait(0.5) for one in bursts), "s")
    section.note("from a request to its Deployment, p99", median(one.wait(0.99) for one in bursts), "s")
    section.note(
        "event loop's lag, p99 (upper end of the bucket)", 1000 * median(one.lag_p99_seconds for one in bursts), "ms"
    )
    section.note("requests that the API server could not take and was asked again", sum(one.failed for one in bursts))
    section.note("operator's peak memory", median(one.peak_bytes for one in bursts) / 1e6, "MB")
    return section
