"""Kinds that not every cluster has: looked for from time to time, and watched once they are there.

A kind counts as served when its objects have been listed: with an API that is installed and rights that are missing,
nothing of it is written, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from vllm_operator.render.labels import MANAGED_BY_LABEL, MANAGER
from vllm_operator.runtime.feeds import ChildFeed
from vllm_operator.runtime.kube import OPTIONAL_CHILDREN, ApiError, Unreachable
from vllm_operator.runtime.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.runtime.children import Children
    from vllm_operator.runtime.kube import Kube, Resource

_LOGGER = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
"""How soon a CRD that was installed is noticed."""
FIRST_LIST_SECONDS = 5.0
"""How long a kind that is served may take to be listed before the operator goes on without it."""


class OptionalKinds:
    """Which of the optional kinds the cluster has; a part of the operator that runs as long as it does."""

    def __init__(
        self,
        kube: Kube,
        children: Children,
        namespaces: tuple[str | None, ...],
        *,
        queue: Callable[[str], None],
        changed: Callable[[], None],
        resync_seconds: float = 120.0,
        look_seconds: float = LOOK_SECONDS,
        jitter: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._kube = kube
        self._children = children
        self._namespaces = namespaces
        self._queue = queue
        self._changed = changed
        self._resync_seconds = resync_seconds
        self._look_seconds = look_seconds
        self._jitter = jitter
        self._watched: dict[Resource, list[tuple[Watcher, asyncio.Task[None]]]] = {}
        self.served: frozenset[str] = frozenset()
        """Kinds that can be listed in every namespace that is watched."""
        self.looked = asyncio.Event()
        """Set once the cluster has been asked."""

    async def run(self) -> None:
        """Look, and watch what is there, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._look(group)
                self.looked.set()
                await asyncio.sleep(self._look_seconds * self._jitter())

    async def _look(self, group: asyncio.TaskGroup) -> None:
        for resource in OPTIONAL_CHILDREN:
            try:
                served = await self._kube.serves(resource)
            except (ApiError, Unreachable) as error:
                # Says nothing about the kind: what is known of it stays.
                _LOGGER.warning("discovery failed", extra={"resource": resource.plural, "reason": str(error)})
                continue
            if served and resource not in self._watched:
                self._watched[resource] = [self._watch(group, resource, namespace) for namespace in self._namespaces]
            elif not served and resource in self._watched:
                self._forget(resource)
        await self._first_lists()
        found = frozenset(
            resource.kind
            for resource, watched in self._watched.items()
            if all(watcher.synced.is_set() for watcher, _ in watched)
        )
        if found != self.served:
            _LOGGER.info("optional kinds", extra={"reason": ", ".join(sorted(found)) or "none"})
            self.served = found
            self._changed()

    def _watch(
        self, group: asyncio.TaskGroup, resource: Resource, namespace: str | None
    ) -> tuple[Watcher, asyncio.Task[None]]:
        watcher = Watcher(
            self._kube,
            resource,
            ChildFeed(self._children, resource.kind, namespace, self._queue),
            namespace=namespace,
            labels=f"{MANAGED_BY_LABEL}={MANAGER}",
            resync_seconds=self._resync_seconds,
            jitter=self._jitter,
        )
        return watcher, group.create_task(watcher.run(), name=f"watch {resource.plural}")

    def _forget(self, resource: Resource) -> None:
        """End the watches of a kind whose API is gone, and its objects with it."""
        for watcher, task in self._watched.pop(resource):
            task.cancel()
            watcher.sink.replace([], None)

    async def _first_lists(self) -> None:
        waiting = [
            watcher.synced.wait()
            for watched in self._watched.values()
            for watcher, _ in watched
            if not watcher.synced.is_set()
        ]
        if not waiting:
            return
        try:
            async with asyncio.timeout(FIRST_LIST_SECONDS):
                await asyncio.gather(*waiting)
        except TimeoutError:
            _LOGGER.warning("an optional kind cannot be listed", extra={"reason": "see the warnings of its watch"})
