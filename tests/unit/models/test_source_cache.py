"""What is kept of loads that were made, and what is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from vllm_operator.models.errors import ModelGated, ModelNotFound, ModelSourceError, ModelUnreadable, SourceOffline
from vllm_operator.models.source import FactsCache
from vllm_operator.models.source.given import facts_of_parameter_count

if TYPE_CHECKING:
    from vllm_operator.models.facts import ModelFacts

COMMIT = "0" * 40


class Clock:
    """Time that stands until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Loads:
    """Counts loads, and fails as told."""

    def __init__(self, *failures: ModelSourceError) -> None:
        self.failures = list(failures)
        self.count = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self) -> ModelFacts:
        self.count += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return facts_of_parameter_count(float(self.count), uri="org/model")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> FactsCache:
    return FactsCache(clock=clock, capacity=3)


async def test_callers_at_the_same_time_share_one_load(cache: FactsCache) -> None:
    load = Loads()
    load.gate = asyncio.Event()
    callers = [asyncio.create_task(cache.get("org/model", load=load)) for _ in range(5)]
    await asyncio.sleep(0)
    load.gate.set()
    assert len({id(facts) for facts in await asyncio.gather(*callers)}) == 1
    assert load.count == 1


async def test_a_caller_that_gives_up_does_not_stop_the_load(cache: FactsCache) -> None:
    load = Loads()
    load.gate = asyncio.Event()
    impatient = asyncio.create_task(cache.get("org/model", load=load))
    patient = asyncio.create_task(cache.get("org/model", load=load))
    await asyncio.sleep(0)
    impatient.cancel()
    load.gate.set()
    assert (await patient).parameters == 1_000_000_000
    assert load.count == 1


async def test_branches_are_asked_again_after_a_while(cache: FactsCache, clock: Clock) -> None:
    load = Loads()
    for _ in range(2):
        await cache.get("org/model", revision="main", load=load)
    assert load.count == 1
    clock.now += 601
    await cache.get("org/model", revision="main", load=load)
    assert load.count == 2


async def test_commits_never_expire(cache: FactsCache, clock: Clock) -> None:
    load = Loads()
    await cache.get("org/model", revision=COMMIT, load=load)
    clock.now += 10**9
    await cache.get("org/model", revision=COMMIT, load=load)
    assert load.count == 1


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(ModelNotFound, 60), (ModelGated, 60), (ModelUnreadable, 300), (SourceOffline, 15)],
)
async def test_failures_stand_for_a_while(
    cache: FactsCache, clock: Clock, error: type[ModelSourceError], seconds: int
) -> None:
    load = Loads(error("no"))
    for _ in range(3):
        with pytest.raises(error, match="no"):
            await cache.get("org/model", load=load)
    assert load.count == 1
    clock.now += seconds + 1
    assert (await cache.get("org/model", load=load)).parameters == 2_000_000_000


async def test_facts_outlive_a_source_that_went_away(cache: FactsCache, clock: Clock) -> None:
    load = Loads()
    first = await cache.get("org/model", load=load)
    clock.now += 601
    load.failures.append(SourceOffline("gone"))
    with pytest.raises(SourceOffline):
        await cache.get("org/model", load=load)
    assert cache.peek("org/model") is first
    assert await cache.get("org/model", load=load) is first


async def test_accounts_do_not_see_each_others_models(cache: FactsCache) -> None:
    load = Loads()
    await cache.get("org/private", token="mine", load=load)
    assert cache.peek("org/private", token="mine") is not None
    assert cache.peek("org/private", token="yours") is None
    assert cache.peek("org/private") is None
    assert "mine" not in repr(vars(cache))


async def test_peeking_asks_nobody(cache: FactsCache) -> None:
    assert cache.peek("org/model") is None


async def test_the_oldest_models_make_room(cache: FactsCache) -> None:
    load = Loads()
    for index in range(4):
        await cache.get(f"org/model-{index}", load=load)
    assert [cache.peek(f"org/model-{index}") is not None for index in range(4)] == [False, True, True, True]
