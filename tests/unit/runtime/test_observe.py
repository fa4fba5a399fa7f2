"""Which pods are read, when, and how often: with pods as the API server has them, and a network that is made up."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from vllm_operator.models.engine_report import EngineReport
from vllm_operator.runtime.observe import AT_ONCE, QUIET_LOOKS, Observer, target_of
from vllm_operator.runtime.observe_scrape import ScrapeError
from vllm_operator.runtime.queue import FIRST_RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

KEY = "team/model"
LABELS = {
    "app.kubernetes.io/name": "vllm",
    "app.kubernetes.io/instance": "model",
    "app.kubernetes.io/component": "model-server",
    "app.kubernetes.io/managed-by": "vllm-operator",
}
REPORT = EngineReport(
    num_gpu_blocks=1000, block_size=16, kv_cache_tokens=16_000, max_concurrency=2.0, gpu_memory_utilization=0.9
)


def pod(name: str = "model-7d4b9-x", *, ready: bool = True, restarts: int = 0, **changes: Any) -> dict[str, Any]:
    """A pod of ours; `changes` are of its metadata, or `podIP`."""
    address = changes.pop("podIP", "10.244.1.7")
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-{name}",
            "labels": LABELS,
            "annotations": {"vllm-operator.io/plan-hash": "abc"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "model-7d4b9", "uid": "rs", "controller": True}],
            **changes,
        },
        "spec": {"containers": [{"name": "engine", "ports": [{"name": "http", "containerPort": 8000}]}]},
        "status": {
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "engine", "containerID": f"c://{restarts}", "restartCount": restarts}],
        },
    }


class Network:
    """Answers for addresses; what is not in `answers` does not answer."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, int]] = []
        self.at_once = self.most_at_once = 0
        self.held = asyncio.Event()
        self.held.set()
        self._moved = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that shows when a read begins or ends."""
        async with asyncio.timeout(5):
            while not holds():
                self._moved.clear()
                await self._moved.wait()

    async def read(self, address: str, port: int) -> tuple[EngineReport, ...]:
        self.asked.append((address, port))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self._moved.set()
        try:
            await self.held.wait()
        finally:
            self.at_once -= 1
            self._moved.set()
        answer = self.answers.get(address)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            raise ScrapeError("Unreachable", "nobody there", answered=False)
        return (answer,)


class World:
    """An observer at work."""

    def __init__(self, pace: float) -> None:
        self.network = Network()
        self.changed: list[str] = []
        self.news = asyncio.Event()
        self.observer = Observer(self._changed, jitter=lambda: pace)
        self.working = asyncio.Event()
        self.working.set()

    def _changed(self, key: str) -> None:
        self.changed.append(key)
        self.news.set()

    async def told(self) -> None:
        """Wait for the next news."""
        async with asyncio.timeout(5):
            await self.news.wait()
        self.news.clear()


@asynccontextmanager
async def observing(pace: float = 0.02) -> AsyncIterator[World]:
    """An observer at work, whose delays are that part of the real ones."""
    world = World(pace)
    task = asyncio.create_task(world.observer.run(world.working, world.network.read))
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_ready_pod_of_ours_is_read_at_its_own_address_and_port() -> None:
    target = target_of(pod())
    assert target is not None
    assert (target.owner, target.address, target.port, target.plan_hash) == (KEY, "10.244.1.7", 8000, "abc")


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(pod(ready=False), id="not ready"),
        pytest.param(pod(deletionTimestamp="2026-11-01T00:00:00Z"), id="being deleted"),
        pytest.param(pod(labels={"app": "theirs"}), id="somebody else's"),
        pytest.param(pod(labels={**LABELS, "app.kubernetes.io/component": "model-worker"}), id="a worker"),
        pytest.param(pod(ownerReferences=[]), id="our labels on a bare pod"),
        pytest.param(
            pod(ownerReferences=[{"kind": "ReplicaSet", "name": "theirs-1", "controller": True}]),
            id="our labels on a pod of somebody else's Deployment",
        ),
        pytest.param(pod(ownerReferences=[{"kind": "Job", "name": "model-1", "controller": True}]), id="a Job's pod"),
        pytest.param(pod(podIP=""), id="no address yet"),
        pytest.param(pod(podIP="169.254.169.254"), id="a metadata service"),
        pytest.param(pod(podIP="127.0.0.1"), id="ourselves"),
        pytest.param({**pod(), "spec": {"containers": [{"name": "engine"}]}}, id="no port"),
    ],
)
def test_no_other_pod_is_read(obj: dict[str, Any]) -> None:
    assert target_of(obj) is None


async def test_a_pod_is_read_once_however_often_it_is_seen() -> None:
    async with observing() as world:
        world.network.answers["10.244.1.7"] = REPORT
        world.observer.upsert(pod())
        await world.told()
        for _ in range(3):
            world.observer.upsert(pod())
            world.observer.replace([pod()])
        await asyncio.sleep(0)
        (reading,) = world.observer.of(KEY)
        assert (reading.pod, reading.plan_hash, reading.reports) == ("model-7d4b9-x", "abc", (REPORT,))
        assert world.network.asked == [("10.244.1.7", 8000)]
        assert world.changed == [KEY]
        assert world.observer.unread == 0


async def test_an_engine_that_was_started_again_is_read_again() -> None:
    async with observing() as world:
        world.network.answers["10.244.1.7"] = REPORT
        world.observer.upsert(pod())
        await world.told()
        world.observer.upsert(pod(ready=False))
        assert world.observer.of(KEY) == ()
        world.observer.upsert(pod(restarts=1))
        await world.told()
        assert len(world.network.asked) == 2


async def test_a_pod_that_does_not_answer_is_asked_again_until_it_does() -> None:
    async with observing() as world:
        world.observer.upsert(pod())
        await world.network.until(lambda: len(world.network.asked) >= 3)
        assert world.changed == [], "nothing is known, so nobody need look"
        assert world.observer.of(KEY) == ()
        assert world.observer.unread == 1
        world.network.answers["10.244.1.7"] = REPORT
        await world.told()
        assert world.observer.outcomes["Unreachable"] >= 3
        assert world.observer.outcomes["Read"] == 1


async def test_a_pod_that_stays_silent_is_told_of_once_and_only_after_a_while() -> None:
    async with observing(pace=0.0005) as world:
        world.observer.upsert(pod())
        await world.told()
        assert len(world.network.asked) == QUIET_LOOKS
        (reading,) = world.observer.of(KEY)
        assert (reading.missing, reading.problem) == (True, "Unreachable: nobody there")
        assert world.observer.unread == 1, "of this pod nothing is known"
        await world.network.until(lambda: len(world.network.asked) >= QUIET_LOOKS + 2)
        assert world.changed == [KEY]
        world.network.answers["10.244.1.7"] = ScrapeError("Absurd", "num_gpu_blocks is '0'", answered=True)
        await world.told()
        assert [(one.missing, one.problem) for one in world.observer.of(KEY)] == [
            (False, "Absurd: num_gpu_blocks is '0'")
        ]
        world.network.answers["10.244.1.7"] = REPORT
        await world.told()
        assert [one.reports for one in world.observer.of(KEY)] == [(REPORT,)]
        assert world.observer.unread == 0


def test_a_minute_passes_before_anybody_hears_of_a_silent_pod() -> None:
    waited = sum(FIRST_RETRY_SECONDS * 2**failure for failure in range(QUIET_LOOKS - 1))
    assert 45 <= waited <= 90


async def test_nonsense_is_told_once_and_a_good_answer_replaces_it() -> None:
    async with observing() as world:
        world.network.answers["10.244.1.7"] = ScrapeError("Absurd", "num_gpu_blocks is '0'", answered=True)
        world.observer.upsert(pod())
        await world.told()
        assert [one.problem for one in world.observer.of(KEY)] == ["Absurd: num_gpu_blocks is '0'"]
        await world.network.until(lambda: len(world.network.asked) >= 3)
        assert world.changed == [KEY]
        world.network.answers["10.244.1.7"] = REPORT
        await world.told()
        assert [one.problem for one in world.observer.of(KEY)] == [""]


async def test_one_that_answers_other_nonsense_each_time_is_told_once() -> None:
    async with observing() as world:
        world.network.answers["10.244.1.7"] = ScrapeError("Absurd", "the first", answered=True)
        world.observer.upsert(pod())
        await world.told()
        world.network.answers["10.244.1.7"] = ScrapeError("Malformed", "the second", answered=True)
        await world.network.until(lambda: len(world.network.asked) >= 3)
        assert [one.problem for one in world.observer.of(KEY)] == ["Absurd: the first"]
        assert world.changed == [KEY]


async def test_a_fault_of_ours_with_one_pod_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with observing() as world:
        world.network.answers["10.244.1.7"] = RuntimeError("a fault")
        world.network.answers["10.244.1.8"] = REPORT
        world.observer.upsert(pod())
        world.observer.upsert(pod("other-5f-1", podIP="10.244.1.8", **_of("other")))
        await world.told()
        assert world.changed == ["team/other"]
        world.network.answers["10.244.1.7"] = REPORT
        await world.told()
        assert world.changed == ["team/other", KEY]
    assert "a fault" in caplog.text


def _of(name: str) -> dict[str, Any]:
    """Metadata of a pod of another deployment."""
    return {
        "labels": {**LABELS, "app.kubernetes.io/instance": name},
        "ownerReferences": [{"kind": "ReplicaSet", "name": f"{name}-5f", "controller": True}],
    }


async def test_replicas_are_told_together_and_one_that_is_silent_holds_up_nobody() -> None:
    async with observing() as world:
        world.network.answers = {f"10.244.1.{number}": REPORT for number in (1, 2)}
        for number in (1, 2, 3):
            world.observer.upsert(pod(f"model-7d4b9-{number}", podIP=f"10.244.1.{number}"))
        await world.told()
        assert len(world.observer.of(KEY)) == 2
        assert world.changed == [KEY]


async def test_a_pod_that_goes_while_it_is_asked_is_forgotten() -> None:
    async with observing() as world:
        world.network.answers["10.244.1.7"] = REPORT
        world.network.held.clear()
        world.observer.upsert(pod())
        await world.network.until(lambda: bool(world.network.asked))
        world.observer.replace([])
        world.network.held.set()
        await world.network.until(lambda: not world.network.at_once)
        await asyncio.sleep(0)
        assert world.observer.of(KEY) == ()
        assert world.changed == []


async def test_only_so_many_are_asked_at_once() -> None:
    async with observing() as world:
        world.network.held.clear()
        for number in range(AT_ONCE + 20):
            world.observer.upsert(pod(f"model-7d4b9-{number}", podIP=f"10.244.2.{number}"))
        await world.network.until(lambda: world.network.at_once == AT_ONCE)
        for _ in range(10):
            await asyncio.sleep(0)
        assert world.network.most_at_once == AT_ONCE
        world.network.held.set()


async def test_a_replica_that_does_not_lead_asks_nobody() -> None:
    async with observing() as world:
        world.working.clear()
        world.network.answers["10.244.1.7"] = REPORT
        world.observer.upsert(pod())
        for _ in range(10):
            await asyncio.sleep(0)
        assert world.network.asked == []
        world.working.set()
        await world.told()
        assert world.network.asked == [("10.244.1.7", 8000)]
