"""A request's body that goes out only if it may still be sent at that moment.

Between the question whether a replica leads and the first byte on the wire, a connection is taken or made, and the
process can be held up (a paused machine, SIGSTOP). What was allowed then may be another replica's to do by now.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from aiohttp.payload import BytesPayload

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.abc import AbstractStreamWriter

MAY_SEND: Final[ContextVar[Callable[[], bool]]] = ContextVar("MAY_SEND")
"""Asked by each body that is made where it is set, right before it is written; not set: it may."""


class HeldUp(Exception):
    """The body was not sent: its sender may not any more."""


class GuardedBody(BytesPayload):
    """JSON, or another text, that asks once more before it is written."""

    def __init__(self, text: bytes, *, content_type: str) -> None:
        super().__init__(text, content_type=content_type)
        self._may_send = MAY_SEND.get(None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write it, or nothing.

        Raises:
            HeldUp: it may not be sent any more; aiohttp then closes the connection.
        """
        if self._may_send is not None and not self._may_send():
            raise HeldUp("what was to be written is another replica's to write by now")
        await super().write_with_length(writer, content_length)
