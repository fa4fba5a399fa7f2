"""A request's body that goes out only if it may still be sent at that moment.

Between the question whether a replica leads and the first byte on the wire, a connection is taken or made, and the
process can be held up (a paused machine, SIGSTOP). What was allowed then may be another replica's to do by now.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from aiohttp.payload import BytesPayload
from pydantic_core import to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.abc import AbstractStreamWriter

MAY_SEND: Final[ContextVar[Callable[[], bool]]] = ContextVar("MAY_SEND")
"""Asked by each body that is made where it is set, right before it is written; not set: it may."""


_TO_BE_ESCAPED: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON may hold as it is, and YAML refuses or takes for the end of a line (YAML 1.1, sections 5.1 and 5.4)."""


class HeldUp(Exception):
    """The body was not sent: its sender may not any more."""


def json_text(content: object) -> bytes:
    """Return JSON that is also YAML, as which the API server reads what is applied.

    YAML knows no pairs of surrogates: what lies beyond 16 bits, an emoji, must not be escaped as JSON does it.
    """
    text = to_json(content)
    if text.isascii() and b"\x7f" not in text:
        return text
    return _TO_BE_ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text.decode()).encode()


class GuardedBody(BytesPayload):
    """An object as JSON that asks once more before it is written."""

    def __init__(self, content: dict[str, Any], *, content_type: str) -> None:
        super().__init__(json_text(content), content_type=content_type)
        self._may_send = MAY_SEND.get(None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write it, or nothing.

        Raises:
            HeldUp: it may not be sent any more; aiohttp then closes the connection.
        """
        if self._may_send is not None and not self._may_send():
            raise HeldUp("what was to be written is another replica's to write by now")
        await super().write_with_length(writer, content_length)
