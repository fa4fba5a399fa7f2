"""Keeps a picture of one kind of object: list, watch, list again.

A watch ends by itself after the resync time, and the list that follows is authoritative: what it does not have is gone,
also when the deletion was missed. That is the repair for every fault of a stream.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from vllm_operator.runtime.kube import ApiError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.runtime.kube import Kube, Resource

_LOGGER = logging.getLogger(__name__)

LONGEST_BACKOFF_SECONDS = 30.0
SHORTEST_STREAM_SECONDS = 1.0


class Sink(Protocol):
    """Where a picture is kept."""

    def replace(self, objects: list[dict[str, Any]], version: int | None) -> None:
        """Take an authoritative list and its resourceVersion."""
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

    async def run(self) -> None:
        """Keep the picture until cancelled."""
        backoff = 0.5
        while True:
            try:
                await self._list_and_watch()
                backoff = 0.5
            except (ApiError, Unreachable) as error:
                expired = isinstance(error, ApiError) and error.status == 410
                if not expired:
                    _LOGGER.warning("watch interrupted", extra={"resource": self.resource.plural, "reason": str(error)})
                    await asyncio.sleep(backoff * self.jitter())
                    backoff = min(LONGEST_BACKOFF_SECONDS, backoff * 2)

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
        objects, version = await self.kube.list(self.resource, self.namespace, labels=self.labels)
        self.sink.replace(objects, int(version) if version.isdecimal() else None)
        del objects
        self.synced.set()
        return version
