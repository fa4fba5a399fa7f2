"""A namespace that is being deleted: nothing is made in it any more, and nobody is told so as if it were a fault."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.controlplane.audit import AuditTrail
from tests.controlplane.client import condition
from tests.controlplane.waiting import held_within, wait_until
from tests.plane.models import LLAMA_8B, deployment

if TYPE_CHECKING:
    from tests.controlplane.audit import Request
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

RETRIES_WOULD_COME_WITHIN_SECONDS = 4.0
"""The first comes after half a second, the next after one."""


def test_what_goes_with_its_namespace_is_not_made_anew_and_no_fault(bare: Scene, bare_namespace: str) -> None:
    api = bare.api
    bare.start_operator()
    api.create(deployment(bare_namespace, model=LLAMA_8B, workload={"contextLength": 4096}))

    def is_rendered(name: str) -> bool:
        return condition(api.get("VLLMDeployment", name, bare_namespace), "Rendered").get("status") == "True"

    wait_until(lambda: is_rendered("model"), "its objects")
    before = api.get("VLLMDeployment", "model", bare_namespace)["status"]
    trail = AuditTrail(bare.plane.audit_log)

    def refused() -> list[Request]:
        return [request for request in trail.read() if (request.namespace, request.code) == (bare_namespace, 403)]

    # No controller empties a namespace on this plane: it stays as it is in a cluster for the seconds that this takes.
    api.delete("Namespace", bare_namespace)
    api.delete("Deployment", "model", bare_namespace)

    wait_until(refused, "the attempt to make it anew")
    asked_again = held_within(lambda: len(refused()) > 1, RETRIES_WOULD_COME_WITHIN_SECONDS)
    assert not asked_again, [(request.verb, request.resource) for request in trail.requests]
    assert api.get("VLLMDeployment", "model", bare_namespace)["status"] == before
    faults = [json.loads(line) for line in bare.operator_log().splitlines() if '"level": "info"' not in line]
    assert [fault for fault in faults if bare_namespace in str(fault)] == []
