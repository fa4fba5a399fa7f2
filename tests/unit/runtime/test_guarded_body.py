"""A body that may not be sent any more reaches no server, whatever was asked before its connection was there."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.runtime.guarded_body import MAY_SEND, GuardedBody, json_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=40,
)


@given(VALUES)
def test_a_body_says_what_was_to_be_said(value: Any) -> None:
    assert json.loads(json_text(value)) == value


@given(st.text())
def test_any_text_is_also_text_in_yaml_as_which_an_applied_object_is_read(text: str) -> None:
    assert yaml.safe_load(json_text({"text": text})) == {"text": text}


@pytest.mark.parametrize("character", ["\x7f", "\x85", "\u2028", "\ufeff", "\uffff", "\x00"])
def test_what_yaml_refuses_is_escaped(character: str) -> None:
    assert json_text(character) == f'"\\u{ord(character):04x}"'.encode()


def test_an_emoji_is_not_escaped_as_two_surrogates_which_yaml_refuses() -> None:
    assert json_text("\U0001f600") == '"\U0001f600"'.encode()


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
            body = GuardedBody({}, content_type="application/json")
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
