"""What the operator asked of the API server, and when, from the server's own audit log: exact, and free of charge."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

OPERATOR = "system:serviceaccount:vllm-operator:vllm-operator"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
SERVER_ERRORS = 500
"""The first code that says that the server, not the request, is at fault."""
OVERLOADED = frozenset({408, 429})
ELECTION = "leases"
"""The leader renews its Lease every 2 s, whatever else goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One finished request of somebody; times in seconds since 1970."""

    user: str
    verb: str
    resource: str
    """With its subresource: `deployments`, `vllmdeployments/status`."""
    namespace: str
    name: str
    code: int
    begun: float
    ended: float

    @property
    def is_write(self) -> bool:
        """Whether it changed something, the leader's Lease aside."""
        return self.verb in WRITES and self.resource != ELECTION and not self.failed

    @property
    def failed(self) -> bool:
        """Whether the API server was not able to do what it was asked: an overloaded one is asked again."""
        return self.code in OVERLOADED or self.code >= SERVER_ERRORS


@dataclass
class AuditLog:
    """The log from here on; `read` takes what has been added since."""

    path: Path
    requests: list[Request] = field(default_factory=list)
    _offset: int = 0
    _rest: bytes = b""

    @classmethod
    def from_now_on(cls, path: Path) -> AuditLog:
        """Return the log without what is in it already."""
        return cls(path, _offset=path.stat().st_size)

    def read(self) -> list[Request]:
        """Return all requests that have been logged by now."""
        with self.path.open("rb") as log:
            log.seek(self._offset)
            added = log.read()
        self._offset += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        self.requests += [_request(event) for event in map(json.loads, lines) if event["stage"] == "ResponseComplete"]
        return self.requests

    def of_operator(self, *, since: int = 0) -> list[Request]:
        """Return the operator's requests among those that were read, the first so many of all aside."""
        return [request for request in self.requests[since:] if request.user == OPERATOR]


def writes(requests: Iterable[Request]) -> Counter[str]:
    """Return how often each `verb resource` was written."""
    return Counter(f"{request.verb} {request.resource}" for request in requests if request.is_write)


def reads_in(requests: Iterable[Request], namespaces: Iterable[str]) -> Counter[str]:
    """Return how often each `verb resource` was read within namespaces; lists of the whole cluster do not count."""
    within = frozenset(namespaces)
    return Counter(
        f"{request.verb} {request.resource}"
        for request in requests
        if request.verb in ("get", "list") and request.namespace in within
    )


def _request(event: dict[str, Any]) -> Request:
    reference = event.get("objectRef") or {}
    resource = str(reference.get("resource") or event["requestURI"].partition("?")[0])
    if reference.get("subresource"):
        resource += f"/{reference['subresource']}"
    return Request(
        user=event["user"]["username"],
        verb=event["verb"],
        resource=resource,
        namespace=str(reference.get("namespace") or ""),
        name=str(reference.get("name") or ""),
        code=int((event.get("responseStatus") or {}).get("code") or 0),
        begun=_seconds(event["requestReceivedTimestamp"]),
        ended=_seconds(event["stageTimestamp"]),
    )


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
