"""A body that may not be sent any more reaches no server, whatever was asked before its connection was there."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from vllm_operator.runtime.guarded_body import MAY_SEND, GuardedBody


@pytest.mark.parametrize("may", [True, False], ids=["still", "no longer"])
async def test_a_body_is_sent_only_if_it_may_be_at_that_moment(may: bool) -> None:
    received: list[str] = []
    allowed = True

    async def take(request: web.Request) -> web.Response:
        received.append(f"{request.content_type}: {await request.text()}")
        return web.Response()

    async def held_up(*_: object) -> None:
        nonlocal allowed
        allowed = may

    application = web.Application()
    application.router.add_patch("/", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(held_up)
    token = MAY_SEND.set(lambda: allowed)
    try:
        async with aiohttp.ClientSession(trace_configs=[trace]) as session:
            body = GuardedBody(b"{}", content_type="application/json")
            if may:
                async with session.patch(f"http://127.0.0.1:{port}/", data=body) as response:
                    assert response.status == 200
            else:
                with pytest.raises(aiohttp.ClientConnectionError):
                    await session.patch(f"http://127.0.0.1:{port}/", data=body)
    finally:
        MAY_SEND.reset(token)
        await runner.cleanup()
    assert received == (["application/json: {}"] if may else [])
