"""Scenario: admission on a large cluster, beside the same load without a webhook.

The requests are dry runs: they go through admission like any other, and leave the cluster as it is. One in four asks
for what no node can hold.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

from tests.perf import burst, objects
from tests.perf.client import at_once, paced
from tests.perf.figures import Bar, Section, quantile
from tests.perf.process import load
from tests.perf.stage import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.perf.client import Answer
    from tests.perf.settings import Sizes
    from tests.perf.stage import Stage

PER_SECOND: Final = 20.0
AT_ONCE: Final = (8, 32)
MOST_MEAN_MS = 10.0
MOST_ADDED_P50_MS = 8.0
MOST_HANDLER_P99_MS = 5.0
MOST_TIMES_P99 = 2.5
WEBHOOK = "feasibility.vllm-operator.io"
DURATION = "apiserver_admission_webhook_admission_duration_seconds"
FAIL_OPEN = "apiserver_admission_webhook_fail_open_count"
HANDLER = "vllm_operator_admission_seconds"
EXPECTED = frozenset({201, 422})
NOTICED_WITHIN_SECONDS = 30.0


@dataclass
class Load:
    """Answers to requests that were reviewed, or would have been."""

    answers: list[Answer] = field(default_factory=list)

    @property
    def unexpected(self) -> int:
        """Answers that are neither admission nor refusal."""
        return sum(answer.status not in EXPECTED for answer in self.answers)

    def ms(self, share: float) -> float:
        """Return a quantile of the time to an answer, in milliseconds."""
        return 1000 * quantile([answer.seconds for answer in self.answers], share)


async def admission(place: Stage, sizes: Sizes, where: str) -> AsyncIterator[Section]:
    """Measure each load without a webhook, then with it."""
    questions = _questions(place)
    number = int(sizes.reviews_seconds * PER_SECOND)
    yield await _steady(place, questions, number, where)
    for concurrency in AT_ONCE:
        yield await _closed(place, questions, number, concurrency, where)
    yield await _during_a_burst(place, questions, sizes, where)


def _questions(place: Stage) -> Iterator[Callable[[Load], Awaitable[None]]]:
    """Yield requests without end, each of another name."""
    path = f"{objects.RESOURCES.format(NAMESPACE)}?dryRun=All"

    async def ask(resource: objects.Manifest, into: Load) -> None:
        into.answers.append(await place.client.send("POST", path, resource))

    for number in count():
        resource = objects.resource(NAMESPACE, number, among=objects.MODELS_AND_A_REFUSAL)
        resource["metadata"]["name"] = f"asked-{number}"
        yield partial(ask, resource)


def _asked(
    questions: Iterator[Callable[[Load], Awaitable[None]]], number: int, into: Load
) -> list[Callable[[], Awaitable[None]]]:
    return [partial(next(questions), into) for _ in range(number)]


async def _steady(
    place: Stage, questions: Iterator[Callable[[Load], Awaitable[None]]], number: int, where: str
) -> Section:
    section = Section(
        f"Admission, {PER_SECOND:.0f} requests a second: {where}", f"{number:,} requests without and with.", load()
    )
    without, with_it = Load(), Load()
    await _without_webhook(place)
    await paced(_asked(questions, number, without), per_second=PER_SECOND)
    await _with_webhook(place)
    server, operator = await place.server_metrics(), place.operator_metrics()
    await paced(_asked(questions, number, with_it), per_second=PER_SECOND)
    server, operator = (await place.server_metrics()).since(server), place.operator_metrics().since(operator)
    section.at_most(
        "webhook, mean in the API server's histogram",
        1000 * server.mean(DURATION, name=WEBHOOK),
        MOST_MEAN_MS,
        unit="ms",
    )
    section.at_most("added to the client's p50", with_it.ms(0.5) - without.ms(0.5), MOST_ADDED_P50_MS, unit="ms")
    section.at_most(
        "handler alone, p99 (upper end of the bucket)",
        1000 * operator.quantile(HANDLER, 0.99),
        MOST_HANDLER_P99_MS,
        unit="ms",
    )
    section.note("handler alone, mean", 1000 * operator.mean(HANDLER), "ms")
    _compared(section, without, with_it)
    section.equal(
        "refused, of four models one that fits nowhere", sum(a.status == 422 for a in with_it.answers), number // 4
    )
    _errors(section, without, with_it, int(server.total(FAIL_OPEN)))
    return section


async def _closed(
    place: Stage, questions: Iterator[Callable[[Load], Awaitable[None]]], number: int, concurrency: int, where: str
) -> Section:
    section = Section(
        f"Admission, {concurrency} requests at once: {where}", f"{number:,} requests without and with.", load()
    )
    without, with_it = Load(), Load()
    await _without_webhook(place)
    await at_once(_asked(questions, number, without), concurrency=concurrency)
    await _with_webhook(place)
    server = await place.server_metrics()
    await at_once(_asked(questions, number, with_it), concurrency=concurrency)
    failed_open = (await place.server_metrics()).since(server).total(FAIL_OPEN)
    _ratio(section, without, with_it)
    _compared(section, without, with_it)
    _errors(section, without, with_it, int(failed_open))
    return section


async def _during_a_burst(
    place: Stage, questions: Iterator[Callable[[Load], Awaitable[None]]], sizes: Sizes, where: str
) -> Section:
    section = Section(
        f"Admission, {PER_SECOND:.0f} requests a second while {sizes.burst:,} new resources are reconciled: {where}",
        "The burst itself goes through the webhook, too.",
        load(),
    )
    without, with_it = Load(), Load()
    await _without_webhook(place)
    await _asked_during(place, questions, without, first=sizes.resources, number=sizes.burst)
    await _with_webhook(place)
    server, operator = await place.server_metrics(), place.operator_metrics()
    await _asked_during(place, questions, with_it, first=sizes.resources + sizes.burst, number=sizes.burst)
    server, operator = (await place.server_metrics()).since(server), place.operator_metrics().since(operator)
    _ratio(section, without, with_it)
    section.note("webhook, mean in the API server's histogram", 1000 * server.mean(DURATION, name=WEBHOOK), "ms")
    section.note("handler alone, p99 (upper end of the bucket)", 1000 * operator.quantile(HANDLER, 0.99), "ms")
    _compared(section, without, with_it)
    _errors(section, without, with_it, int(server.total(FAIL_OPEN)))
    return section


async def _asked_during(
    place: Stage,
    questions: Iterator[Callable[[Load], Awaitable[None]]],
    into: Load,
    *,
    first: int,
    number: int,
) -> None:
    """Ask at a steady pace until a burst is done."""
    reconciling = asyncio.create_task(burst.created(place, number, first=first))
    try:
        while not reconciling.done():
            await paced(_asked(questions, int(PER_SECOND), into), per_second=PER_SECOND)
    finally:
        await reconciling


async def _with_webhook(place: Stage) -> None:
    place.scene.install_webhook()
    await _until_refusals_are(place, expected=True)


async def _without_webhook(place: Stage) -> None:
    place.scene.remove_webhook()
    await _until_refusals_are(place, expected=False)


async def _until_refusals_are(place: Stage, *, expected: bool) -> None:
    """Wait until the API server has taken the webhook's configuration into account, and knows it well."""
    impossible = objects.resource(NAMESPACE, 0, among=objects.MODELS_AND_A_REFUSAL[-1:])
    impossible["metadata"]["name"] = "impossible"
    path = f"{objects.RESOURCES.format(NAMESPACE)}?dryRun=All"
    async with asyncio.timeout(NOTICED_WITHIN_SECONDS):
        same = 0
        while same < len(AT_ONCE) * PER_SECOND:
            answer = await place.client.send("POST", path, impossible)
            same = same + 1 if (answer.status == 422) is expected else 0


def _ratio(section: Section, without: Load, with_it: Load) -> None:
    section.at_most(
        "p99, in times of the same load without webhook",
        with_it.ms(0.99) / without.ms(0.99),
        MOST_TIMES_P99,
        kind=Bar.ASSERTED,
    )


def _compared(section: Section, without: Load, with_it: Load) -> None:
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        section.note(f"client's {name} without and with", f"{without.ms(share):.1f} and {with_it.ms(share):.1f} ms")


def _errors(section: Section, without: Load, with_it: Load, failed_open: int) -> None:
    section.equal("errors and time-outs", without.unexpected + with_it.unexpected, 0)
    section.equal("reviews that the API server gave up (it fails open)", failed_open, 0)
