"""Authoritative lists of the VLLMDeployments: Kopf watches them, and misses deletions when it has to list again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vllm_operator.runtime.kube import VLLM_DEPLOYMENTS, ApiError, Unreachable
from vllm_operator.runtime.watch import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.runtime.feeds import ResourceFeed
    from vllm_operator.runtime.kube import Kube

_LOGGER = logging.getLogger(__name__)

SHORTEST_PAUSE_SECONDS: Final = 1.0
"""Between two lists, whoever asks for them: what makes one watch list again makes all of them."""


@dataclass
class Resync:
    """Lists one namespace (None: all) every `seconds`, and soon after somebody has cause to doubt the picture."""

    kube: Kube
    feed: ResourceFeed
    seconds: float
    jitter: Callable[[], float] = lambda: 1.0
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    _doubted: asyncio.Event = field(default_factory=asyncio.Event)

    def soon(self) -> None:
        """Ask for a list: a deletion may have been missed."""
        self._doubted.set()

    async def run(self) -> None:
        """List until cancelled."""
        backoff = Backoff(self.jitter)
        while True:
            self._doubted.clear()
            try:
                await self._list()
            except (ApiError, Unreachable) as error:
                _LOGGER.warning("list failed", extra={"resource": VLLM_DEPLOYMENTS.plural, "reason": str(error)})
                await asyncio.sleep(backoff.next_seconds(error))
                continue
            backoff.reset()
            await asyncio.sleep(SHORTEST_PAUSE_SECONDS * self.jitter())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self.seconds * self.jitter() - SHORTEST_PAUSE_SECONDS)):
                    await self._doubted.wait()

    async def _list(self) -> None:
        objects, version = await self.kube.list(VLLM_DEPLOYMENTS, self.feed.namespace, keep=self.feed.resources.listed)
        self.feed.replace(objects, int(version) if version.isdecimal() else None)
        self.synced.set()
