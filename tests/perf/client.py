"""A concurrent client that does nothing but send: the driver of every load, and what the operator is compared with."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from tests.controlplane.audit import SERVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from tests.controlplane.plane import ControlPlane

Manifest = dict[str, Any]

CONCURRENCY = 16
"""As many requests at a time as the operator has workers."""
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
_PAGE = 500
RETRY_SECONDS = 0.5
"""The operator's first back-off."""


class Failed(Exception):
    """The API server did not do what the driver asked; the message holds its answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended, and how long it took."""

    status: int
    seconds: float
    body: bytes

    def ok(self) -> Manifest:
        """Return the answer's object.

        Raises:
            Failed: the request was refused.
        """
        if self.status >= 300:
            raise Failed(f"{self.status}: {self.body[:500].decode(errors='replace')}")
        found: Manifest = json.loads(self.body)
        return found


class Client:
    """One session with the API server, as its administrator; an async context manager."""

    def __init__(self, plane: ControlPlane) -> None:
        self._server = plane.server
        self._context = plane.client_context()

    async def __aenter__(self) -> Client:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=128)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(
        self, method: str, path: str, body: Manifest | None = None, content_type: str = "application/json"
    ) -> Answer:
        """Send a request; the answer to a write is the object's metadata alone."""
        headers = {"Content-Type": content_type}
        if method != "GET":
            headers["Accept"] = _METADATA_ONLY
        data = None if body is None else json.dumps(body).encode()
        begun = time.perf_counter()
        async with self._session.request(method, self._server + path, data=data, headers=headers) as response:
            text = await response.read()
        return Answer(response.status, time.perf_counter() - begun, text)

    async def create(self, path: str, body: Manifest) -> Manifest:
        """Create an object in a collection."""
        return (await self.send("POST", path, body)).ok()

    async def merge(self, path: str, patch: Manifest) -> Manifest:
        """Apply a JSON merge patch."""
        return (await self.send("PATCH", path, patch, MERGE)).ok()

    async def apply(self, path: str, body: Manifest) -> Manifest:
        """Apply an object by server-side apply, again and again while an overloaded API server cannot take it."""
        while True:
            answer = await self.send("PATCH", f"{path}?fieldManager=bench&force=true", body, APPLY)
            if answer.status < SERVER_ERRORS:
                return answer.ok()
            await asyncio.sleep(RETRY_SECONDS)

    async def delete(self, path: str, *, grace_seconds: int | None = None) -> None:
        """Delete an object; without grace a pod goes at once, as where its kubelet has ended it."""
        body = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        (await self.send("DELETE", path, body)).ok()

    async def list(self, path: str) -> AsyncIterator[Manifest]:
        """Yield all objects of a collection."""
        following = ""
        while True:
            page = (await self.send("GET", f"{path}?limit={_PAGE}{following}")).ok()
            for item in page["items"]:
                yield item
            if not page["metadata"].get("continue"):
                return
            following = f"&continue={page['metadata']['continue']}"

    async def text(self, path: str) -> str:
        """Return the text of any path, such as /metrics."""
        async with self._session.get(self._server + path) as response:
            return await response.text()


async def at_once(work: Iterable[Callable[[], Awaitable[object]]], *, concurrency: int = CONCURRENCY) -> None:
    """Do all pieces of work, so many at a time."""
    pieces = iter(work)

    async def worker() -> None:
        for piece in pieces:
            await piece()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())


async def paced(work: Sequence[Callable[[], Awaitable[object]]], *, per_second: float) -> None:
    """Begin the pieces of work at a steady pace, whether or not earlier ones have ended."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.TaskGroup() as group:
        for number, piece in enumerate(work):
            await asyncio.sleep(begun + number / per_second - loop.time())
            group.create_task(_awaited(piece))


async def _awaited(piece: Callable[[], Awaitable[object]]) -> None:
    await piece()
