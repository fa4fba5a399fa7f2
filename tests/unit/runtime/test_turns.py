"""Who takes turns lets others in between, in the order in which they came."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from vllm_operator.runtime.turns import Turns


async def test_between_two_turns_the_loop_looks_at_what_else_has_come_in() -> None:
    turns = Turns()
    seen: list[str] = []

    async def compute(name: str) -> None:
        await turns.take()
        seen.append(name)

    async def others() -> None:
        while len(seen) < 7:
            seen.append("other")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name in ("first", "second", "third"):
            group.create_task(compute(name))
        group.create_task(others())

    assert [name for name in seen if name != "other"] == ["first", "second", "third"]
    turn_at = [seen.index(name) for name in ("first", "second", "third")]
    assert all(later - earlier > 1 for earlier, later in pairwise(turn_at)), seen
