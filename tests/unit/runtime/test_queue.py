"""The queue against a model of client-go's semantics, in virtual time."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.runtime.queue import LONGEST_RETRY_SECONDS, KeyQueue

if TYPE_CHECKING:
    from collections.abc import Coroutine


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__(_JumpingSelector(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self._loop.now += timeout
        return super().select(0)


def in_virtual_time(main: Coroutine[None, None, None]) -> None:
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


def test_a_key_that_waits_is_there_once() -> None:
    async def main() -> None:
        queue: KeyQueue[str] = KeyQueue()
        for _ in range(3):
            queue.add("a")
        assert len(queue) == 1
        assert await queue.get() == "a"
        assert len(queue) == 0

    in_virtual_time(main())


def test_a_key_that_is_added_while_it_is_worked_on_comes_once_more_afterwards() -> None:
    async def main() -> None:
        queue: KeyQueue[str] = KeyQueue()
        queue.add("a")
        await queue.get()
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert len(queue) == 1

    in_virtual_time(main())


def test_of_several_delays_of_a_key_the_shortest_counts() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue: KeyQueue[str] = KeyQueue()
        queue.add_after("a", 60)
        queue.add_after("a", 5)
        queue.add_after("a", 30)
        assert await queue.get() == "a"
        assert loop.time() == 5
        queue.done("a")
        await asyncio.sleep(120)
        assert len(queue) == 0

    in_virtual_time(main())


def test_a_delay_ends_when_its_key_is_handed_out_before() -> None:
    async def main() -> None:
        queue: KeyQueue[str] = KeyQueue()
        queue.add_after("a", 5)
        queue.add("a")
        await queue.get()
        queue.done("a")
        await asyncio.sleep(10)
        assert len(queue) == 0

    in_virtual_time(main())


def test_retries_back_off_to_a_limit_and_start_anew_after_a_success() -> None:
    async def main() -> None:
        queue: KeyQueue[str] = KeyQueue()
        delays = []
        for _ in range(12):
            delays.append(queue.retry("a"))
            await queue.get()
            queue.done("a")
        assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
        assert delays[-1] == LONGEST_RETRY_SECONDS
        queue.succeeded("a")
        assert queue.retry("a") == 0.5

    in_virtual_time(main())


def test_a_retry_that_the_work_itself_asked_for_keeps_its_back_off() -> None:
    async def main() -> None:
        queue: KeyQueue[str] = KeyQueue()
        queue.add("a")
        delays = []
        for _ in range(3):
            await queue.get()
            delays.append(queue.retry("a"))
            queue.succeeded("a")
            queue.done("a")
        assert delays == [0.5, 1.0, 2.0]

    in_virtual_time(main())


def test_a_closed_queue_hands_out_nothing_and_is_idle_once_the_work_under_way_is_done() -> None:
    async def main() -> None:
        queue: KeyQueue[str] = KeyQueue()
        queue.add("a")
        queue.add("b")
        await queue.get()
        queue.close()
        waiting = asyncio.ensure_future(queue.get())
        idle = asyncio.ensure_future(queue.idle())
        await asyncio.sleep(1)
        assert not waiting.done()
        assert not idle.done()
        queue.done("a")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert idle.done()
        waiting.cancel()

    in_virtual_time(main())


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 5)), max_size=40),
    st.integers(1, 5),
    st.floats(0.1, 3),
)
def test_no_key_is_worked_on_twice_at_once_and_none_is_lost(
    additions: list[tuple[int, float]], workers: int, seconds_of_work: float
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue: KeyQueue[int] = KeyQueue()
        busy: set[int] = set()
        started: dict[int, float] = {}
        added: dict[int, float] = {}

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in busy
                busy.add(key)
                started[key] = loop.time()
                await asyncio.sleep(seconds_of_work)
                busy.discard(key)
                queue.done(key)

        tasks = [asyncio.ensure_future(work()) for _ in range(workers)]
        for key, pause in additions:
            await asyncio.sleep(pause)
            queue.add(key)
            added[key] = loop.time()
        await asyncio.sleep(seconds_of_work * (len(additions) + 2))
        assert not [task.exception() for task in tasks if task.done()]
        assert all(started[key] >= time for key, time in added.items())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    in_virtual_time(main())
