"""What the operator asked of the API server, counted from the server's own audit log: exact, and free of charge."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.controlplane.audit import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.controlplane.audit import AuditTrail, Request


def of_operator(audit: AuditTrail, *, since: int = 0) -> list[Request]:
    """Return the operator's requests among those that were read, the first so many of all aside."""
    return [request for request in audit.requests[since:] if request.user == OPERATOR]


def writes(requests: Iterable[Request]) -> Counter[str]:
    """Return how often each `verb resource` was written."""
    return Counter(f"{request.verb} {request.resource}" for request in requests if request.wrote)


def reads_in(requests: Iterable[Request], namespaces: Iterable[str]) -> Counter[str]:
    """Return how often each `verb resource` was read within namespaces; lists of the whole cluster do not count."""
    within = frozenset(namespaces)
    return Counter(
        f"{request.verb} {request.resource}"
        for request in requests
        if request.verb in ("get", "list") and request.namespace in within
    )
