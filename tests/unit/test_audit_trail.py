"""The audit log as the plane tests read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.controlplane.audit import OPERATOR, AuditTrail, LogReplaced

if TYPE_CHECKING:
    from pathlib import Path


def event(name: str) -> str:
    moment = "2026-01-01T00:00:00.000000Z"
    document = {
        "stage": "ResponseComplete",
        "user": {"username": OPERATOR},
        "verb": "create",
        "requestURI": "/",
        "objectRef": {"resource": "services", "namespace": "default", "name": name},
        "responseStatus": {"code": 201},
        "requestReceivedTimestamp": moment,
        "stageTimestamp": moment,
    }
    return json.dumps(document) + "\n"


def test_a_trail_holds_what_was_logged_since_it_was_made_and_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(event("before"))
    trail = AuditTrail(log)
    half = event("second")
    with log.open("a") as added:
        added.write(event("first") + half[:50])
    assert [request.name for request in trail.writes()] == ["first"]
    with log.open("a") as added:
        added.write(half[50:])
    assert [request.name for request in trail.writes()] == ["first", "second"]


def test_a_log_that_was_rotated_is_an_error_and_not_an_operator_that_wrote_nothing(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(event("one") * 3)
    trail = AuditTrail(log)
    log.rename(tmp_path / "audit-old.log")
    log.write_text(event("two"))

    with pytest.raises(LogReplaced, match="it was rotated"):
        trail.read()
