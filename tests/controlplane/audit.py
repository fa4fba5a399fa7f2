"""Who asked the API server for what, from its own audit log."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

OPERATOR = "system:serviceaccount:vllm-operator:vllm-operator"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
LEASES = "leases"
"""The leader renews its Lease every 2 s, whatever else goes on."""
SERVER_ERRORS = 500
"""The first code that says that the server, not the request, is at fault."""
OVERLOADED = frozenset({408, 429})


class LogReplaced(AssertionError):
    """The log is shorter than what has been read of it: another file has its name, and requests were missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answered request; `begun` and `ended` are seconds since 1970."""

    user: str
    agent: str
    verb: str
    resource: str
    """With its subresource, such as `vllmdeployments/status`."""
    namespace: str
    name: str
    code: int
    begun: float
    ended: float

    @property
    def is_write(self) -> bool:
        """Whether it was to change an object; the Lease by which replicas elect their leader does not count."""
        return self.verb in WRITES and self.resource != LEASES

    @property
    def failed(self) -> bool:
        """Whether the API server was not able to do what it was asked: an overloaded one is asked again."""
        return self.code in OVERLOADED or self.code >= SERVER_ERRORS

    @property
    def wrote(self) -> bool:
        """Whether it is a write that the API server was able to do."""
        return self.is_write and not self.failed

    @property
    def made_it(self) -> bool:
        """Whether it brought an object into being: server-side apply answers 201 then."""
        return self.is_write and self.code == 201


@dataclass
class AuditTrail:
    """Requests from its making on: the operators', or everyone's. `read` takes what has been logged since."""

    path: Path
    requests: list[Request] = field(default_factory=list)
    everyone: bool = False
    _offset: int = field(init=False)

    def __post_init__(self) -> None:
        self._offset = self.path.stat().st_size

    def read(self) -> list[Request]:
        """Return the requests that have been logged by now.

        Raises:
            LogReplaced: requests are missing, as the API server has begun a new file.
        """
        with self.path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            if size < self._offset:
                raise LogReplaced(f"{self.path} has {size} bytes, of which {self._offset} were read: it was rotated")
            log.seek(self._offset)
            added = log.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        self.requests += [
            _request(event)
            for event in map(json.loads, whole.splitlines())
            if event["stage"] == "ResponseComplete" and (self.everyone or event["user"]["username"] == OPERATOR)
        ]
        return self.requests

    def writes(self) -> list[Request]:
        """Return the writes by now, but for those to the Lease."""
        return [request for request in self.read() if request.is_write]


def _request(event: dict[str, Any]) -> Request:
    reference = event.get("objectRef") or {}
    parts = (reference.get("resource") or event["requestURI"].partition("?")[0], reference.get("subresource"))
    return Request(
        user=event["user"]["username"],
        agent=event.get("userAgent") or "",
        verb=event["verb"],
        resource="/".join(filter(None, parts)),
        namespace=reference.get("namespace") or "",
        name=reference.get("name") or "",
        code=int((event.get("responseStatus") or {}).get("code") or 0),
        begun=datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp(),
        ended=datetime.fromisoformat(event["stageTimestamp"]).timestamp(),
    )
