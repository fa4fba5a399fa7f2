"""Fairness on one event loop: computations take turns, and whoever waits for a socket comes in between."""

from __future__ import annotations

import asyncio


class Turns:
    """Hands out turns one at a time, and looks at the sockets between any two.

    Sixteen reconciles whose answers arrive together would otherwise compute one behind the other before the loop sees
    that an admission review has come in.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self) -> None:
        """Wait for a turn: it lasts until the caller awaits something else."""
        async with self._lock:
            await asyncio.sleep(0)
