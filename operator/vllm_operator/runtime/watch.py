"""Keeps a picture of one kind of object: list, watch, list again.

A watch ends by itself after the resync time, and the list that follows is authoritative: what it does not have is gone,
also when the deletion was missed. That is the repair for every fault of a stream.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from vllm_operator.runtime.answers import EXPIRED
from vllm_operator.runtime.kube import ApiError, Unreachable, as_it_is

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.runtime.kube import Keep, Kube, Resource

_LOGGER = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS: Final = 0.5
LONGEST_BACKOFF_SECONDS: Final = 10.0
"""Half of what a view may be old after an outage: long enough for a server that starts, short for its users."""
STEADY_SECONDS: Final = 30.0
"""A watch that has held for that long was no failed attempt: what ends it begins a new series."""
SHORTEST_STREAM_SECONDS: Final = 1.0


class Backoff:
    """How long to wait before the next attempt: twice as long each time, up to a limit, and not all at once."""

    def __init__(self, jitter: Callable[[], float] = lambda: 1.0) -> None:
        self._jitter = jitter
        self._seconds = FIRST_BACKOFF_SECONDS

    def next_seconds(self, error: ApiError | Unreachable) -> float:
        """Return how long to wait after this error: as long as the server asks for, if that is longer."""
        seconds = self._seconds
        self._seconds = min(LONGEST_BACKOFF_SECONDS, seconds * 2)
        asked_for = error.retry_after_seconds if isinstance(error, ApiError) else 0.0
        return max(seconds, asked_for) * self._jitter()

    def reset(self) -> None:
        """Start anew: an attempt went well."""
        self._seconds = FIRST_BACKOFF_SECONDS


class Sink(Protocol):
    """Where a picture is kept."""

    def replace(self, objects: list[Any], version: int | None) -> None:
        """Take an authoritative list, of each object what was kept, and its resourceVersion."""
        ...

    def upsert(self, obj: dict[str, Any]) -> None:
        """Take an object that was added or changed."""
        ...

    def remove(self, obj: dict[str, Any]) -> None:
        """Forget an object that was deleted."""
        ...


@dataclass
class Watcher:
    """One list+watch loop over one kind in one namespace (None: all)."""

    kube: Kube
    resource: Resource
    sink: Sink
    namespace: str | None = None
    labels: str = ""
    resync_seconds: float = 120.0
    jitter: Callable[[], float] = lambda: 1.0
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    keep: Keep = as_it_is
    """What the sink's `replace` takes of each object."""
    recovered: Callable[[], None] = lambda: None
    """Called after the first list that follows an interruption."""
    _interrupted: bool = False

    async def run(self) -> None:
        """Keep the picture until cancelled."""
        backoff = Backoff(self.jitter)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._list_and_watch()
            except (ApiError, Unreachable) as error:
                if loop.time() - began >= STEADY_SECONDS:
                    backoff.reset()
                self._interrupted = True
                if not (isinstance(error, ApiError) and error.status == EXPIRED):
                    _LOGGER.warning("watch interrupted", extra={"resource": self.resource.plural, "reason": str(error)})
                await asyncio.sleep(backoff.next_seconds(error))
            else:
                backoff.reset()

    async def _list_and_watch(self) -> None:
        version = await self.list_once()
        seconds = max(1, int(self.resync_seconds * self.jitter()))
        started = asyncio.get_running_loop().time()
        stream = self.kube.watch(self.resource, self.namespace, version=version, seconds=seconds, labels=self.labels)
        async for kind, obj in stream:
            if kind in ("ADDED", "MODIFIED"):
                self.sink.upsert(obj)
            elif kind == "DELETED":
                self.sink.remove(obj)
        if asyncio.get_running_loop().time() - started < SHORTEST_STREAM_SECONDS:
            # A server that ends every stream at once must not be listed in a tight loop.
            await asyncio.sleep(SHORTEST_STREAM_SECONDS)

    async def list_once(self) -> str:
        """Take an authoritative list; returns the version from which to watch."""
        objects, version = await self.kube.list(self.resource, self.namespace, labels=self.labels, keep=self.keep)
        self.sink.replace(objects, int(version) if version.isdecimal() else None)
        del objects
        self.synced.set()
        if self._interrupted:
            self._interrupted = False
            self.recovered()
        return version
