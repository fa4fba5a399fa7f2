"""The fence around the cluster: of several replicas only the one that leads gets its writes through."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.runtime.guarded_body import MAY_SEND
from vllm_operator.runtime.kube import Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from vllm_operator.runtime.kube import Objects, Resource

Manifest = dict[str, Any]


class NotLeading(Unreachable):
    """This replica does not lead, or cannot be sure of it any more: what it wanted to write is another's to write."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """`Objects` for one that may write only as long as it leads.

    Each write asks anew, as a process can be held up, and is given up when the lead ends: the API server drops a
    request whose connection is closed, so that none of this replica's comes in while another leads.
    """

    kube: Objects
    seconds_left: Callable[[], float]

    async def apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        """See `Objects.apply`."""
        async with self._while_leading():
            return await self.kube.apply(manifest, force=force)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """See `Objects.apply_status`."""
        async with self._while_leading():
            return await self.kube.apply_status(manifest)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest:
        """See `Objects.get`."""
        return await self.kube.get(resource, namespace, name)

    async def find(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """See `Objects.find`."""
        return await self.kube.find(resource, namespace, name)

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> None:
        """See `Objects.delete`."""
        async with self._while_leading():
            await self.kube.delete(resource, namespace, name, uid=uid)

    async def create(self, resource: Resource, namespace: str, manifest: Manifest) -> None:
        """See `Objects.create`."""
        async with self._while_leading():
            await self.kube.create(resource, namespace, manifest)

    async def update(self, resource: Resource, namespace: str | None, manifest: Manifest) -> Manifest:
        """See `Objects.update`."""
        async with self._while_leading():
            return await self.kube.update(resource, namespace, manifest)

    @asynccontextmanager
    async def _while_leading(self) -> AsyncIterator[None]:
        seconds = self.seconds_left()
        if seconds <= 0:
            raise NotLeading("this replica does not lead and may not write")
        guard = MAY_SEND.set(lambda: self.seconds_left() > 0)
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                yield
        except TimeoutError:
            raise NotLeading(
                f"the API server did not answer within the {seconds:.1f} s that were left to lead"
            ) from None
        finally:
            MAY_SEND.reset(guard)
