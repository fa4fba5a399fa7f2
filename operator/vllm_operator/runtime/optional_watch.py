"""A watch of a kind that not every cluster has: followed where its API is, looked for again where it is not.

That an API is absent is the usual case and no error: it delays nothing and says nothing. An API that comes is found by
the next look; one that goes ends its watch, and takes its objects along.
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
    served: bool = False
    """Whether its objects have been listed. With an API that is installed and rights that are missing they are not."""
    _refused: bool = False
    _failures: int = 0

    async def list_once(self) -> str:
        """See `Watcher.list_once`."""
        version = await super().list_once()
        self._refused = False
        self._failures = 0
        self._is_served(True)
        return version

    async def _list_and_watch(self) -> None:
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
                self._say_once(error)
                break
            else:
                return
        self.sink.replace([], None)
        self._is_served(False)
        self.synced.set()
        await asyncio.sleep(LOOK_AGAIN_SECONDS * self.jitter())

    def _is_served(self, served: bool) -> None:
        if served != self.served:
            self.served = served
            self.presence_changed()

    def _say_once(self, error: ApiError) -> None:
        """Say that the API is there but may not be used: nothing of it counts, and nothing of it is made."""
        if not self._refused:
            _LOGGER.warning("a kind is left out", extra={"resource": self.resource.plural, "reason": str(error)})
        self._refused = True
