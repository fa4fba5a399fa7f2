"""A worker goes on whatever becomes of a key, and each key keeps its own back-off."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from vllm_operator.runtime.kube import ApiError, Unreachable
from vllm_operator.runtime.lanes import Lane
from vllm_operator.runtime.observability import Metrics
from vllm_operator.runtime.queue import KeyQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@asynccontextmanager
async def working(step: Callable[[str], Awaitable[None]]) -> AsyncIterator[Lane]:
    """Have one worker on a lane."""
    lane = Lane("test", KeyQueue(), step, asyncio.Event(), Metrics())
    task = asyncio.create_task(lane.work())
    try:
        async with asyncio.timeout(5):
            yield lane
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_key_that_is_done_is_not_tried_again() -> None:
    done = asyncio.Event()

    async def step(key: str) -> None:
        done.set()

    async with working(step) as lane:
        lane.working.set()
        lane.queue.add("a")
        await done.wait()
        await lane.queue.idle()
        assert lane.queue.entries() == 0


@pytest.mark.parametrize(
    ("fault", "least_seconds", "told"),
    [
        (ApiError(429, "TooManyRequests", "later", retry_after_seconds=30), 30, logging.WARNING),
        (Unreachable("no route"), 0, logging.WARNING),
        (KeyError("ours"), 0, logging.ERROR),
    ],
    ids=["told when to come again", "unreachable", "our own fault"],
)
async def test_a_key_that_fails_waits_and_the_next_one_is_worked_on(
    fault: Exception, least_seconds: float, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    other = asyncio.Event()

    async def step(key: str) -> None:
        if key == "broken":
            raise fault
        other.set()

    async with working(step) as lane:
        lane.working.set()
        lane.queue.add("broken")
        lane.queue.add("other")
        await other.wait()
        await lane.queue.idle()
        wait = lane.queue._timers["broken"].when() - asyncio.get_running_loop().time()
    assert set(lane.queue._timers) == {"broken"}
    assert wait > max(0.1, least_seconds - 1)
    (record,) = caplog.records
    assert (record.levelno, record.key) == (told, "broken")  # type: ignore[attr-defined]


async def test_nothing_is_worked_on_before_this_replica_may() -> None:
    done = asyncio.Event()

    async def step(key: str) -> None:
        done.set()

    async with working(step) as lane:
        lane.queue.add("a")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not done.is_set()
        lane.working.set()
        await done.wait()
