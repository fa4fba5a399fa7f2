"""What workers do: hand each key of a queue to its step, one at a time, and let no key that fails stop the others."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.runtime.kube import ApiError, Unreachable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from vllm_operator.runtime.observability import Metrics
    from vllm_operator.runtime.queue import KeyQueue

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lane:
    """A queue, and what is done with each of its keys while `working` is set."""

    name: str
    queue: KeyQueue[str]
    step: Callable[[str], Awaitable[None]]
    working: asyncio.Event
    metrics: Metrics

    async def work(self) -> None:
        """Take keys until cancelled; as many of these run at once as there are workers."""
        while True:
            await self.working.wait()
            key = await self.queue.get()
            try:
                with self.metrics.reconciling():
                    await self.step(key)
            except (ApiError, Unreachable) as error:
                wait = error.retry_after_seconds if isinstance(error, ApiError) else 0.0
                delay = self.queue.retry(key, at_least_seconds=wait)
                _LOGGER.warning("a write failed", extra={"key": key, "reason": str(error), "seconds": round(delay, 1)})
            except Exception as error:  # a fault of ours with one resource must not stop the others
                delay = self.queue.retry(key)
                _LOGGER.exception("reconcile failed", extra={"key": key, "reason": repr(error), "seconds": delay})
            else:
                self.queue.succeeded(key)
            finally:
                self.queue.done(key)
