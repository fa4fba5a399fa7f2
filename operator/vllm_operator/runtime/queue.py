"""A queue of keys with the semantics of client-go's work queue.

A key that is added while it waits is there once; a key that is added while it is being worked on comes once more
afterwards; no key is ever worked on twice at once. N events therefore cost one reconcile, which reads the newest state.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Key = TypeVar("Key", bound="Hashable")

FIRST_RETRY_SECONDS: Final = 0.5
LONGEST_RETRY_SECONDS: Final = 300.0


class KeyQueue(Generic[Key]):
    """Keys to be worked on; belongs to one event loop.

    `jitter` returns a factor around 1 that keeps keys which failed together from coming back together.
    """

    def __init__(self, *, jitter: Callable[[], float] = lambda: 1.0) -> None:
        self._waiting: deque[Key] = deque()
        self._dirty: set[Key] = set()
        self._processing: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._available = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._retrying: set[Key] = set()
        self._jitter = jitter

    def __len__(self) -> int:
        return len(self._waiting)

    def entries(self) -> int:
        """Return how much is kept, for whoever watches that it does not grow."""
        return len(self._dirty) + len(self._processing) + len(self._failures) + len(self._timers) + len(self._retrying)

    def add(self, key: Key) -> None:
        """Mark a key dirty: it will be handed out once, after what is being done with it now."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._waiting.append(key)
            self._available.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Mark a key dirty later; of several delays of one key the shortest counts."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._fire, key)

    def retry(self, key: Key, *, at_least_seconds: float = 0.0) -> float:
        """Mark a key dirty after its own back-off, which doubles with each failure; returns the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._retrying.add(key)
        backoff = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures, 32))
        delay = max(at_least_seconds, backoff) * self._jitter()
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        """Start the back-off of a key anew, unless its own work has just asked for a retry."""
        if key not in self._retrying:
            self._failures.pop(key, None)

    def forget(self, key: Key) -> None:
        """Drop what is kept for a key that is gone."""
        self._failures.pop(key, None)
        self._retrying.discard(key)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def get(self) -> Key:
        """Wait for a key and hand it out; `done` must follow.

        A delay of that key ends with it: who works on it now sees the newest state, and says anew when to come again.
        """
        while not self._waiting or self._closed:
            self._available.clear()
            await self._available.wait()
        key = self._waiting.popleft()
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._dirty.discard(key)
        self._retrying.discard(key)
        self._processing.add(key)
        self._idle.clear()
        return key

    async def idle(self) -> None:
        """Wait until nothing is being worked on."""
        await self._idle.wait()

    def done(self, key: Key) -> None:
        """Say that the work on a key has ended; if it was marked dirty meanwhile, it waits again."""
        self._processing.discard(key)
        if not self._processing:
            self._idle.set()
        if key in self._dirty:
            self._waiting.append(key)
            self._available.set()

    def close(self) -> None:
        """Hand out no more keys, and cancel all delays."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _fire(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)
