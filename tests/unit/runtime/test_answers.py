"""Answers that no parser should have to read: too deep, or no JSON at all."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession, web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.runtime.answers import (
    DEEPEST,
    ApiResponse,
    NotJson,
    answers_without_echoes,
    parse_json,
    shallow,
)

KUBERNETES_LIMIT = 10_000
"""`sigs.k8s.io/json`: maxNestingDepth."""


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def depth_of(value: object) -> int:
    depth, level = 0, [value]
    while containers := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


@pytest.mark.parametrize("levels", [1, DEEPEST, DEEPEST + 1, sys.getrecursionlimit(), KUBERNETES_LIMIT])
def test_any_depth_that_kubernetes_accepts_can_be_read(levels: int) -> None:
    text = b'{"items":[{"name":"deep","spec":' + nested(levels) + b'},{"name":"other"}]}'
    items = parse_json(text)["items"]
    assert [item["name"] for item in items] == ["deep", "other"]
    assert depth_of(items) <= levels + 2


def test_lists_are_cut_like_objects() -> None:
    assert parse_json(b"[" * KUBERNETES_LIMIT + b"]" * KUBERNETES_LIMIT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=40,
)


def cut(value: Any, levels: int) -> Any:
    if isinstance(value, dict):
        return {key: cut(item, levels - 1) for key, item in value.items()} if levels else None
    if isinstance(value, list):
        return [cut(item, levels - 1) for item in value] if levels else None
    return value


@given(value=JSON, deepest=st.integers(1, 6))
def test_what_is_cut_is_what_is_too_deep_and_nothing_else(value: Any, deepest: int) -> None:
    assert json.loads(shallow(json.dumps(value).encode(), deepest)) == cut(value, deepest)


@given(value=JSON)
def test_what_is_not_deep_is_read_as_python_reads_it(value: Any) -> None:
    text = json.dumps(value).encode()
    assert parse_json(text) == json.loads(text) == value


@pytest.mark.parametrize("text", [b"", b"<html>", b'{"a":', b"\xff", b'{"a":' * KUBERNETES_LIMIT])
def test_what_is_no_json_is_called_so(text: bytes) -> None:
    with pytest.raises(NotJson):
        parse_json(text)


async def _streamed(*lines: bytes, response_class: type[ApiResponse] = ApiResponse) -> list[bytes]:
    """Return what a client of a watch that sends these lines gets."""

    async def watch(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines:
            await response.write(line[:7])
            await response.write(line[7:] + b"\n")
        return response

    application = web.Application()
    application.router.add_get("/", watch)
    async with (
        TestServer(application) as server,
        ClientSession(response_class=response_class) as session,
        session.get(server.make_url("/?watch=true")) as response,
    ):
        chunks = [chunk async for chunk in response.content.iter_chunked(2**20)]
        return b"".join(chunks).splitlines()


async def test_events_of_a_watch_are_cut_before_anybody_parses_them() -> None:
    event = b'{"type":"ADDED","object":' + nested(KUBERNETES_LIMIT) + b"}"
    small = b'{"type":"DELETED","object":{}}'
    first, second = await _streamed(event, small)
    assert depth_of(json.loads(first)) == DEEPEST
    assert second == small


def event(kind: str, name: str, version: int) -> bytes:
    obj = {"metadata": {"name": name, "resourceVersion": str(version), "annotations": {"resourceVersion": "7"}}}
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode()


async def test_an_object_that_is_known_as_it_is_comes_as_a_bookmark() -> None:
    lines = [
        event("ADDED", "ours", 7),
        event("MODIFIED", "ours", 7),
        event("MODIFIED", "ours", 8),
        event("MODIFIED", "other", 9),
        event("DELETED", "ours", 7),
    ]
    found = await _streamed(
        *lines,
        response_class=answers_without_echoes(
            lambda obj: (obj["metadata"]["name"], obj["metadata"]["resourceVersion"]) == ("ours", "7")
        ),
    )
    bookmark = json.loads(found[1])
    assert bookmark == {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}
    assert [found[0], *found[2:]] == [lines[0], *lines[2:]]


async def test_nothing_is_known_where_nobody_says_so() -> None:
    assert await _streamed(event("MODIFIED", "ours", 7)) == [event("MODIFIED", "ours", 7)]


async def test_an_event_that_is_cut_off_in_a_whole_line_is_a_broken_connection() -> None:
    with pytest.raises(ClientPayloadError):
        await _streamed(event("MODIFIED", "ours", 7)[:-9])


async def test_a_page_in_the_place_of_a_watch_is_a_broken_connection() -> None:
    with pytest.raises(ClientPayloadError):
        await _streamed(b"<html>try again later</html>")


async def test_an_error_within_a_watch_is_a_broken_connection_unless_it_says_that_the_version_is_too_old() -> None:
    def error(code: int) -> bytes:
        return b'{"type":"ERROR","object":{"kind":"Status","code":%d,"message":"etcdserver: leader changed"}}' % code

    with pytest.raises(ClientPayloadError, match="leader changed"):
        await _streamed(error(500))
    assert await _streamed(error(410)) == [error(410)]


async def _answered(body: bytes, *, announced: int | None = None, status: int = 200) -> Any:
    """Return what a client makes of an answer, of which more may be announced than comes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Length": str(announced or len(body)), "Content-Type": "application/json"}
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        await response.write(body)
        if announced and request.transport is not None:
            request.transport.close()
        return response

    application = web.Application()
    application.router.add_get("/", answer)
    async with (
        TestServer(application) as server,
        ClientSession(response_class=ApiResponse) as session,
        session.get(server.make_url("/")) as response,
    ):
        return await response.json()


async def test_an_answer_is_parsed_and_cut() -> None:
    assert await _answered(b'{"items":[]}') == {"items": []}
    assert depth_of(await _answered(nested(KUBERNETES_LIMIT))) == DEEPEST


async def test_a_refusal_is_handed_on_as_it_is() -> None:
    assert await _answered(b'{"kind":"Status","code":403}', status=403) == {"kind": "Status", "code": 403}


@pytest.mark.parametrize("announced", [None, 100], ids=["whole", "broken off"])
async def test_an_answer_that_cannot_be_read_fails_while_the_request_is_made(announced: int | None) -> None:
    with pytest.raises(ClientConnectionError):
        await _answered(b"<html>", announced=announced)
