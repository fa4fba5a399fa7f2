"""A watch of a kind that not every cluster has: followed where its API is, looked for again where it is not.

That an API is absent is the usual case and no error: it delays nothing and says nothing. An API that comes is found by
the next look; one that goes ends its watch, and takes its objects along. Rights that go take no object along.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.runtime.kube import ApiError
from vllm_operator.runtime.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.runtime.kube import Resource

_LOGGER = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS: Final = 20.0
"""Time after which an API that was not there is looked for again."""
NOT_FOUND: Final = 404
MAY_NOT: Final = (401, 403)
PATIENCE: Final = 3
"""Failures after which nothing waits for a kind any more; one that was just installed answers 429 for a moment."""


@dataclass
class OptionalWatcher(Watcher):
    """A watcher of a kind whose API may be absent, come and go; `synced` is set once that is known.

    `versions` are those in which it may be served, the newest first; none: that of `resource` alone.
    """

    versions: tuple[Resource, ...] = ()
    presence_changed: Callable[[], None] = lambda: None
    """Called when `served` or `refusal` has changed."""
    outlives_rights: bool = False
    """Whether what was listed stays known when the right to list is lost: it runs on, though nobody may look."""
    served: bool = False
    """Whether its objects have been listed. With an API that is installed and rights that are missing they are not."""
    refusal: str = ""
    """Why its objects may not be listed; empty where they may, or where there is no API."""
    _failures: int = 0

    async def list_once(self) -> str:
        """See `Watcher.list_once`."""
        version = await super().list_once()
        self._failures = 0
        self._becomes(served=True, refusal="")
        return version

    async def _list_and_watch(self) -> None:
        refusal = ""
        for resource in self.versions or (self.resource,):
            self.resource = resource
            try:
                await super()._list_and_watch()
            except ApiError as error:
                if error.status == NOT_FOUND:
                    continue
                if error.status not in MAY_NOT:
                    self._failures += 1
                    if self._failures >= PATIENCE:
                        # Such as a conversion webhook that is down: tried again, but nothing waits for it.
                        self.synced.set()
                    raise
                refusal = str(error)
                if not self.refusal:
                    _LOGGER.warning("a kind is left out", extra={"resource": resource.plural, "reason": refusal})
                break
            else:
                return
        known = self.served and self.outlives_rights and refusal != ""
        if not known:
            self.sink.replace([], None)
        self._becomes(served=known, refusal=refusal)
        self.synced.set()
        await asyncio.sleep(LOOK_AGAIN_SECONDS * self.jitter())

    def _becomes(self, *, served: bool, refusal: str) -> None:
        if (served, refusal) != (self.served, self.refusal):
            self.served, self.refusal = served, refusal
            self.presence_changed()
