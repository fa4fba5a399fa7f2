"""A bad network between the operator and the API server: refusals, lost answers, broken streams, and no way through.

Speaks plain HTTP to the operator and TLS to the API server, and passes the operator's own token on, so that its rights
and the audit log are as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import ssl
import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.controlplane.plane import ControlPlane

_HOP_BY_HOP = frozenset({"connection", "content-encoding", "content-length", "host", "keep-alive", "transfer-encoding"})
_STARTED_WITHIN_SECONDS = 5.0


class Fault(Enum):
    """What may happen to a request."""

    TOO_MANY = 429
    CONFLICT = 409
    SERVER_ERROR = 500
    NO_JSON = 200
    """A page of some load balancer, said to be well."""
    CUT = -1
    """The connection breaks before the request has arrived."""
    LOST = -2
    """The connection breaks once the API server has done what it was asked."""


_REASONS = {
    Fault.TOO_MANY: "TooManyRequests",
    Fault.CONFLICT: "Conflict",
    Fault.SERVER_ERROR: "InternalError",
}
OF_READS = (Fault.TOO_MANY, Fault.SERVER_ERROR, Fault.NO_JSON, Fault.CUT)
OF_WRITES = (*OF_READS, Fault.CONFLICT, Fault.LOST)


@dataclass
class FaultyProxy:
    """One proxy, as a context manager; it runs in a thread of its own."""

    plane: ControlPlane
    seed: int
    share: float = 0.0
    """Of all requests, the share to which something happens."""
    open: bool = True
    """Whether requests come through at all."""
    requests: Counter[str] = field(default_factory=Counter)
    """How often each `METHOD path` was asked for; watches as WATCH."""
    faults: Counter[Fault] = field(default_factory=Counter)

    def __enter__(self) -> FaultyProxy:
        self._dice = random.Random(self.seed)
        self._faults_of_reads = itertools.cycle(OF_READS)
        self._faults_of_writes = itertools.cycle(OF_WRITES)
        self._streams: set[asyncio.Transport] = set()
        self._stop = asyncio.Event()
        started = threading.Event()
        # `asyncio.run` also ends what is still being answered when the proxy goes.
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        if not started.wait(_STARTED_WITHIN_SECONDS):
            raise TimeoutError("the proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """What a kubeconfig would call the server."""
        return f"http://127.0.0.1:{self._port}"

    def drop_watches(self) -> None:
        """Break every stream that is open now."""
        self._loop.call_soon_threadsafe(self._abort_streams)

    def shut(self) -> None:
        """Let nothing through any more, open streams included."""
        self.open = False
        self.drop_watches()

    def _abort_streams(self) -> None:
        for transport in tuple(self._streams):
            transport.abort()

    async def _run(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        # The authority alone, not the administrator's certificate: it is the operator that asks.
        context = ssl.create_default_context(cafile=str(self.plane.authority.certificate))
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0), timeout=timeout, auto_decompress=False
        ) as self._session:
            application = web.Application(client_max_size=16 * 2**20)
            application.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._port: int = runner.addresses[0][1]
            started.set()
            await self._stop.wait()
            self._abort_streams()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") == "true"
        self.requests[f"{'WATCH' if watch else request.method} {request.path}"] += 1
        fault = self._pick(request.method)
        if fault is not None:
            self.faults[fault] += 1
        if not self.open or fault is Fault.CUT:
            return _cut(request)
        if fault is Fault.NO_JSON:
            return web.Response(text="<html>try again later</html>", content_type="text/html")
        if fault in _REASONS:
            return _refusal(fault)
        try:
            async with self._forwarded(request) as upstream:
                if fault is Fault.LOST:
                    await upstream.read()
                    return _cut(request)
                return await self._pass_on(request, upstream)
        except aiohttp.ClientError:
            return _cut(request)

    def _pick(self, method: str) -> Fault | None:
        if self._dice.random() >= self.share:
            return None
        # When is chance; what takes turns, so that a short run meets every kind.
        return next(self._faults_of_reads if method == "GET" else self._faults_of_writes)

    @contextlib.asynccontextmanager
    async def _forwarded(self, request: web.Request) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        url = f"{self.plane.server}{request.path_qs}"
        body = await request.read()
        async with self._session.request(request.method, url, headers=headers, data=body or None) as upstream:
            yield upstream

    async def _pass_on(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = {name: value for name, value in upstream.headers.items() if name.lower() not in _HOP_BY_HOP}
        if "Content-Encoding" in upstream.headers:
            headers["Content-Encoding"] = upstream.headers["Content-Encoding"]
        response = web.StreamResponse(status=upstream.status, headers=headers)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self._streams.add(transport)
        try:
            with contextlib.suppress(ConnectionError):
                await response.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
        finally:
            self._streams.discard(transport)
        return response


def _cut(request: web.Request) -> web.Response:
    if isinstance(request.transport, asyncio.Transport):
        request.transport.abort()
    return web.Response(status=503)


def _refusal(fault: Fault) -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": _REASONS[fault],
        "message": "the proxy says so",
        "code": fault.value,
    }
    headers = {"Retry-After": "1"} if fault is Fault.TOO_MANY else {}
    return web.Response(status=fault.value, body=json.dumps(status), headers=headers, content_type="application/json")
