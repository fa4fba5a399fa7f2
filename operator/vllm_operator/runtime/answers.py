"""What the API server answers, made safe to read: JSON as deep as a user pleases, and pages that are no JSON at all.

A free-form field of a VLLMDeployment may be nested ten thousand levels deep (Kubernetes' own limit,
`sigs.k8s.io/json`: maxNestingDepth), ten times of what Python's parser takes. Anybody who may write such a resource
could end the operator with it. So what is nested deeper than any object that makes sense is cut off before it is
parsed; the operator's own checks then refuse what is left.

And made cheap to watch: what the operator knows already, such as its own writes, comes to Kopf as a bookmark.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from aiohttp.connector import Connection

DEEPEST: Final = 100
"""Levels that are kept. A pod template needs 12; a list or an event around an object, and its managed fields, add 8."""
_HARMLESS_BRACKETS: Final = 500
"""So many brackets cannot be nested too deeply for the parser, which takes almost a thousand levels."""
_SHORTEST_STREAM_SECONDS: Final = 1.0
_ERROR: Final = b'{"type":"ERROR"'
_MODIFIED: Final = b'{"type":"MODIFIED"'
EXPIRED: Final = 410
"""The version to watch from is out of the server's history: no fault, list again."""
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]')


class NotJson(ValueError):
    """The text is no JSON."""


def parse_json(text: bytes) -> Any:
    """Return what JSON says; of what is nested too deeply, with null for what is deeper than `DEEPEST` levels.

    Raises:
        NotJson: it is none.
    """
    try:
        # Twice as fast as Python's own parser; it reads two hundred levels.
        return from_json(text, cache_strings="keys")
    except ValueError:
        pass
    try:
        return json.loads(shallow(text))
    except (ValueError, RecursionError) as error:  # what is never closed cannot be cut
        raise NotJson(f"no JSON: {text[:64]!r}") from error


def shallow(text: bytes, deepest: int = DEEPEST) -> bytes:
    """Return the JSON with null for each object and list that is nested deeper."""
    kept, start, cut, depth = [], 0, 0, 0
    for token in _TOKEN.finditer(text):
        match text[token.start() : token.start() + 1]:
            case b"{" | b"[":
                depth += 1
                if depth == deepest + 1:
                    cut = token.start()
            case b"}" | b"]":
                if depth == deepest + 1:
                    kept += [text[start:cut], b"null"]
                    start = token.end()
                depth -= 1
    return b"".join((*kept, text[start:]))


async def lines_of(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split a watch stream; aiohttp's own line iterator refuses lines above 64 KiB, which objects may exceed."""
    buffer = bytearray()
    async for chunk in stream.iter_any():
        buffer += chunk
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            if line.strip():
                yield line


class ApiResponse(aiohttp.ClientResponse):
    """A response for Kopf, which reads by itself and ends the operator when it cannot.

    What is wrong with an answer shows while the request is made, as a broken connection, which Kopf tries again.
    """

    _parsed: Any = None

    def _is_known(self, obj: Mapping[str, Any]) -> bool:
        """Whether an object that was modified is no news; see `answers_without_echoes`."""
        return False

    async def start(self, connection: Connection) -> ApiResponse:
        """See aiohttp; a watch's stream then comes in whole lines, any other answer is here already."""
        await super().start(connection)
        if self.status >= 400:
            return self
        if self.url.query.get("watch") == "true":
            self.content = _WatchLines(self.content, self._is_known)  # type: ignore[assignment]
            return self
        try:
            self._parsed = parse_json(await self.read())
        except (NotJson, aiohttp.ClientPayloadError) as error:
            raise aiohttp.ClientConnectionError(f"{self.url.path}: {error}") from error
        return self

    async def json(self, **options: Any) -> Any:
        """Return the parsed body; of a refusal as aiohttp does."""
        return await super().json(**options) if self.status >= 400 else self._parsed


def answers_without_echoes(is_known: Callable[[Mapping[str, Any]], bool]) -> type[ApiResponse]:
    """Return the class of responses whose watches show an object that was modified only if it is not known as it is.

    In its place comes a bookmark, which tells Kopf from where to go on. An event costs Kopf a queue, a task, and views
    of the object before a handler can see that it is no news: a tenth of all CPU time that a changed resource takes.
    """

    class Response(ApiResponse):
        def _is_known(self, obj: Mapping[str, Any]) -> bool:
            return is_known(obj)

    return Response


class _WatchLines:
    """A watch's stream in chunks of whole lines, none of them too deep; it lasts a second at least.

    The one who reads it would open the next one at once, in a tight loop with a server that ends every stream.
    """

    def __init__(self, stream: aiohttp.StreamReader, is_known: Callable[[Mapping[str, Any]], bool]) -> None:
        self._stream = stream
        self._is_known = is_known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Yield what has come in."""
        began, rest = asyncio.get_running_loop().time(), b""
        try:
            async for chunk in self._stream.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield self._news(_checked(line)) + b"\n"
        except aiohttp.ClientError:
            await self._outlast(began)
            raise
        await self._outlast(began)

    def _news(self, line: bytes) -> bytes:
        """Return an event's line, or in place of one that is no news the bookmark of its version."""
        if not line.startswith(_MODIFIED):
            return line
        try:
            obj = parse_json(line)["object"]
        except NotJson as error:
            raise aiohttp.ClientPayloadError(str(error)) from error
        if not self._is_known(obj):
            return line
        version = {"metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]}}
        return json.dumps({"type": "BOOKMARK", "object": version}).encode()

    async def _outlast(self, began: float) -> None:
        await asyncio.sleep(max(0.0, began + _SHORTEST_STREAM_SECONDS - asyncio.get_running_loop().time()))

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield what has come in; lines are not split, however long."""
        async for chunk in self.iter_any():
            yield chunk


def _checked(line: bytes) -> bytes:
    """Return an event's line, shallow; errors of the stream that are no news of an object break the connection."""
    if line.startswith(_ERROR):
        status = parse_json(line)["object"]
        if status.get("code") != EXPIRED:
            raise aiohttp.ClientPayloadError(f"the watch failed: {status.get('message')}")
    elif line and not line.startswith(b"{"):
        raise aiohttp.ClientPayloadError(f"no event: {line[:64]!r}")
    return shallow(line) if line.count(b"{") + line.count(b"[") > _HARMLESS_BRACKETS else line
