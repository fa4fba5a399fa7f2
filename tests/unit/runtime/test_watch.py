"""Lists and watches that break: when they are tried again, and who hears of it; in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.runtime.fake_kube import FakeKube
from tests.unit.runtime.test_queue import in_virtual_time

from vllm_operator.runtime.children import Children
from vllm_operator.runtime.feeds import ChildFeed, ResourceFeed
from vllm_operator.runtime.kube import DEPLOYMENTS, ApiError, Unreachable
from vllm_operator.runtime.resources import Resources
from vllm_operator.runtime.resync import Resync
from vllm_operator.runtime.watch import LONGEST_BACKOFF_SECONDS, Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MINUTE_SECONDS = 60.0


class BreakingKube(FakeKube):
    """Counts lists; `list_error` and `stream_error` come instead of an answer, streams after `stream_seconds`."""

    def __init__(self) -> None:
        super().__init__()
        self.lists = 0
        self.list_error: Exception | None = None
        self.stream_error: Exception | None = None
        self.stream_seconds = 0.0

    async def list(self, *arguments: Any, **options: Any) -> tuple[list[dict[str, Any]], str]:
        self.lists += 1
        if self.list_error is not None:
            raise self.list_error
        return await super().list(*arguments, **options)

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        await asyncio.sleep(self.stream_seconds)
        if self.stream_error is not None:
            raise self.stream_error
        return
        yield "", {}


def watcher_of(kube: BreakingKube) -> Watcher:
    return Watcher(kube, DEPLOYMENTS, ChildFeed(Children(), "Deployment", None, lambda key: None))


def lists_within(kube: BreakingKube, seconds: float, **options: Any) -> int:
    """Return how often a watcher lists in that time."""

    async def main() -> None:
        watcher = watcher_of(kube)
        for name, value in options.items():
            setattr(watcher, name, value)
        running = asyncio.ensure_future(watcher.run())
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(main())
    return kube.lists


ERRORS = {
    "away": Unreachable("no route"),
    "expired": ApiError(410, "Expired", "too old resource version"),
    "overloaded": ApiError(429, "TooManyRequests", "later"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
def test_a_watch_that_always_fails_is_tried_a_bounded_number_of_times(error: Exception) -> None:
    kube = BreakingKube()
    kube.stream_error = error
    assert 5 <= lists_within(kube, MINUTE_SECONDS) <= 5 + MINUTE_SECONDS / LONGEST_BACKOFF_SECONDS


def test_a_server_that_ends_every_stream_at_once_is_not_listed_in_a_tight_loop() -> None:
    assert lists_within(BreakingKube(), MINUTE_SECONDS) <= MINUTE_SECONDS + 1


def test_a_watch_that_breaks_now_and_then_is_begun_anew_at_once_each_time() -> None:
    kube = BreakingKube()
    kube.stream_seconds, kube.stream_error = MINUTE_SECONDS, Unreachable("reset by peer")
    # A back-off that only ever grew would cost ten seconds of blindness an hour later.
    assert lists_within(kube, 60 * (MINUTE_SECONDS + 0.5) + 1) == 61


def test_the_server_is_left_alone_for_as_long_as_it_asks() -> None:
    kube = BreakingKube()
    kube.list_error = ApiError(429, "TooManyRequests", "later", retry_after_seconds=30.0)
    assert lists_within(kube, MINUTE_SECONDS) == 2


def test_only_a_list_after_an_interruption_is_a_recovery() -> None:
    recoveries: list[float] = []

    async def main() -> None:
        kube = BreakingKube()
        kube.stream_seconds = MINUTE_SECONDS
        watcher = watcher_of(kube)
        watcher.recovered = lambda: recoveries.append(asyncio.get_running_loop().time())
        running = asyncio.ensure_future(watcher.run())
        await asyncio.sleep(2.5 * MINUTE_SECONDS)
        assert recoveries == []
        kube.stream_error = Unreachable("reset by peer")
        await asyncio.sleep(MINUTE_SECONDS)
        assert len(recoveries) == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(main())


def test_a_doubt_brings_a_list_within_two_seconds_and_many_doubts_one() -> None:
    async def main() -> None:
        kube = BreakingKube()
        resync = Resync(kube, ResourceFeed(Resources(), None, lambda key: None), 120.0)
        running = asyncio.ensure_future(resync.run())
        await asyncio.sleep(10)
        assert kube.lists == 1
        for _ in range(100):
            resync.soon()
        await asyncio.sleep(2)
        assert kube.lists == 2
        await asyncio.sleep(200)
        assert kube.lists == 3
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(main())


def test_lists_that_fail_are_tried_a_bounded_number_of_times() -> None:
    async def main() -> None:
        kube = BreakingKube()
        kube.list_error = Unreachable("no route")
        running = asyncio.ensure_future(Resync(kube, ResourceFeed(Resources(), None, lambda key: None), 120.0).run())
        await asyncio.sleep(MINUTE_SECONDS)
        assert 5 <= kube.lists <= 5 + MINUTE_SECONDS / LONGEST_BACKOFF_SECONDS
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(main())
