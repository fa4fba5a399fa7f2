"""The ConfigMap of observations: read at the start, written by the leader alone, and never believed blindly."""

from __future__ import annotations

import asyncio
import copy
import json
from contextlib import asynccontextmanager
from itertools import repeat
from typing import TYPE_CHECKING

import pytest
from tests.unit.api.test_observations import ENTRY, document
from tests.unit.runtime.fake_kube import FakeKube

from vllm_operator.api.observations import DATA_KEY, Observation
from vllm_operator.runtime.kube import CONFIG_MAPS, ApiError, Unreachable
from vllm_operator.runtime.observe_book import ObservationBook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.unit.runtime.fake_kube import Object

    from vllm_operator.runtime.kube import Resource

WHERE = ("configmaps", "operators", "observations")


def observation(revision: str = "0123abc", tokens: int = 90_000) -> Observation:
    entry = copy.deepcopy(ENTRY)
    entry["key"]["revision"] = revision
    return Observation.model_validate({**entry, "kvCacheTokens": tokens, "mostKvCacheTokens": tokens})


def kept(kube: ObservedKube) -> list[str]:
    """Revisions of what the ConfigMap has."""
    text = kube.objects[WHERE]["data"][DATA_KEY]
    return sorted(entry["key"]["revision"] for entry in json.loads(text)["observations"])


class ObservedKube(FakeKube):
    """Says when it was asked or written, for those who wait for that."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: Iterator[Exception] = iter(())
        """What the next requests to read are answered with, before they are answered well."""
        self.asked = 0
        self._moved = asyncio.Event()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        self.asked += 1
        try:
            if (refusal := next(self.refusals, None)) is not None:
                raise refusal
            return await super().get(resource, namespace, name)
        finally:
            self._moved.set()

    async def update(self, resource: Resource, namespace: str | None, manifest: Object) -> Object:
        try:
            return await super().update(resource, namespace, manifest)
        finally:
            self._moved.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds after a request; what follows in the client has happened then."""
        async with asyncio.timeout(5):
            while not holds():
                self._moved.clear()
                await self._moved.wait()
                await asyncio.sleep(0)

    @property
    def updates(self) -> int:
        """Replacements that were tried."""
        return sum(1 for verb, _, _ in self.writes if verb == "update")


@pytest.fixture
def kube() -> ObservedKube:
    made = ObservedKube()
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    metadata = {"name": "observations", "namespace": "operators", "labels": labels}
    made.put(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    return made


def book(kube: ObservedKube, name: str | None = "observations") -> ObservationBook:
    return ObservationBook(kube, namespace="operators", name=name, reread_seconds=0.05, jitter=lambda: 0.01)


@asynccontextmanager
async def running(one: ObservationBook, *, leads: bool = True) -> AsyncIterator[asyncio.Event]:
    leading = asyncio.Event()
    if leads:
        leading.set()
    task = asyncio.create_task(one.run(leading))
    try:
        async with asyncio.timeout(5):
            await one.loaded.wait()
        yield leading
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_learned_is_written_beside_what_the_chart_made_and_read_by_the_next_start(
    kube: ObservedKube,
) -> None:
    first = book(kube)
    async with running(first):
        first.learn(observation())
        await kube.until(lambda: kube.updates == 1)
    assert kept(kube) == ["0123abc"]
    assert kube.objects[WHERE]["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "Helm"}

    second = book(kube)
    async with running(second):
        assert second.observations.of(observation().key) == observation()
    assert [write for write in kube.writes if write[0] == "update"] == [("update", "ConfigMap", "observations")]


async def test_the_same_again_is_not_written_again(kube: ObservedKube) -> None:
    one = book(kube)
    async with running(one):
        one.learn(observation())
        await kube.until(lambda: kube.updates == 1)
        writes = len(kube.writes)
        for _ in range(5):
            one.learn(observation())
        more = observation("another")
        one.learn(more)
        await kube.until(lambda: kube.updates == 2)
        assert len(kube.writes) == writes + 1, "one write, and that for something new"


async def test_what_somebody_else_has_written_meanwhile_is_kept(kube: ObservedKube) -> None:
    one = book(kube)
    async with running(one):
        theirs = kube.objects[WHERE]
        theirs["data"] = {
            DATA_KEY: document(observation("theirs0").model_dump(mode="json", by_alias=True)),
            "note": "x",
        }
        kube.put(CONFIG_MAPS, theirs)
        one.learn(observation())
        await kube.until(lambda: kube.updates == 2)
    assert kept(kube) == ["0123abc", "theirs0"]
    assert kube.objects[WHERE]["data"]["note"] == "x"


async def test_a_replica_that_follows_writes_nothing_and_learns_what_the_leader_wrote(kube: ObservedKube) -> None:
    leader, follower = book(kube), book(kube)
    async with running(leader), running(follower, leads=False) as leading:
        follower.learn(observation("another"))
        leader.learn(observation())
        await kube.until(lambda: kube.updates == 1)
        await kube.until(lambda: follower.observations.of(observation().key) is not None)
        assert kept(kube) == ["0123abc"]
        leading.set()
        await kube.until(lambda: kube.updates == 2)
    assert kept(kube) == ["0123abc", "another"]


async def test_news_of_a_replica_that_ceased_to_lead_is_written_when_it_leads_again(kube: ObservedKube) -> None:
    one = book(kube)
    async with running(one) as leading:
        one.learn(observation())
        leading.clear()
        reads = len(kube.reads)
        await kube.until(lambda: len(kube.reads) > reads)
        assert kube.updates == 0
        leading.set()
        await kube.until(lambda: kube.updates == 1)
    assert kept(kube) == ["0123abc"]


@pytest.mark.parametrize("status", [403, 404])
async def test_without_its_config_map_the_operator_works_and_remembers_while_it_runs(
    kube: ObservedKube, status: int
) -> None:
    kube.refusals = repeat(ApiError(status, "Reason", "no"))
    one = book(kube)
    async with running(one):
        one.learn(observation())
        await kube.until(lambda: kube.asked == 2)
        assert one.observations.of(observation().key) is not None
    assert kube.writes == []


async def test_an_api_server_that_does_not_answer_is_asked_again(kube: ObservedKube) -> None:
    kube.refusals = iter([Unreachable("no"), ApiError(503, "ServiceUnavailable", "no")])
    async with running(book(kube)):
        assert kube.asked == 3


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ("not JSON", 1),
        (document({**ENTRY, "kvCacheTokens": 0}, ENTRY), 1),
        (document(*[{**ENTRY, "kvCacheTokens": -1}] * 30), 30),
    ],
    ids=["no document", "one that cannot be true", "many that cannot be true"],
)
async def test_what_cannot_be_true_is_left_out_and_counted(
    kube: ObservedKube, text: str, ignored: int, caplog: pytest.LogCaptureFixture
) -> None:
    kube.objects[WHERE]["data"] = {DATA_KEY: text}
    one = book(kube)
    async with running(one):
        assert one.ignored == ignored
        assert len(one.observations) == (1 if ignored == 1 and "observations" in text else 0)
    assert 1 <= len([record for record in caplog.records if "ignored" in record.message]) <= 10


async def test_without_a_name_nothing_is_asked_and_nothing_written(kube: ObservedKube) -> None:
    one = book(kube, name=None)
    async with running(one):
        one.learn(observation())
        await asyncio.sleep(0.1)  # longer than it gathers
    assert (kube.reads, kube.writes) == ([], [])
