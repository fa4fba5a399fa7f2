"""A namespace's quota is explained before it refuses a pod, and followed when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import condition
from tests.plane.events import events_told
from tests.plane.machines import GPU
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from tests.controlplane.client import Api

pytestmark = pytest.mark.control_plane

GPUS = f"requests.{GPU}"


def set_quota(api: Api, namespace: str, gpus: int) -> None:
    """Limit the GPUs of a namespace, and wait until the API server does so."""
    name, hard = "gpus", {GPUS: str(gpus)}
    if api.find("ResourceQuota", name, namespace) is None:
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name, "namespace": namespace}}
        api.create({**quota, "spec": {"hard": hard}})
    else:
        api.patch("ResourceQuota", name, {"spec": {"hard": hard}}, namespace)
    api.wait("ResourceQuota", name, lambda obj: (obj.get("status") or {}).get("hard") == hard, namespace)


def model(namespace: str, **sections: Any) -> dict[str, Any]:
    return deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, gpu={"products": ["*H100*"]}, **sections)


def reason(kind: str, expected: str) -> Any:
    return lambda obj: condition(obj, kind).get("reason") == expected


def test_a_quota_without_room_is_explained_before_any_pod_is_asked_for(api: Api, namespace: str) -> None:
    set_quota(api, namespace, 0)

    api.create(model(namespace))

    assert any("ResourceQuota 'gpus'" in warning for warning in api.warnings)
    told = api.wait("VLLMDeployment", "model", reason("Ready", "QuotaExceeded"), namespace)
    rendered = condition(told, "Rendered")
    assert (rendered["status"], rendered["reason"]) == ("False", "QuotaExceeded")
    assert f"allows 0 {GPUS}: 0 of 1 replicas of 1 each may be made; raise the quota" in rendered["message"]
    assert condition(told, "Feasible")["status"] == "True", "the nodes have room"
    assert condition(told, "Degraded")["reason"] == "QuotaExceeded"
    assert api.find("Deployment", "model", namespace) is None

    set_quota(api, namespace, 1)

    api.wait("VLLMDeployment", "model", is_ready, namespace)
    assert len(events_told(api, namespace, "QuotaExceeded")) == 1
    assert not [event for event in api.list("Event", namespace) if event.get("reason") == "FailedCreate"]


def test_a_quota_with_room_for_some_replicas_starts_those_and_counts_the_others(api: Api, namespace: str) -> None:
    set_quota(api, namespace, 1)

    api.create(model(namespace, replicas=2))

    told = api.wait("VLLMDeployment", "model", lambda obj: obj.get("status", {}).get("readyReplicas") == 1, namespace)
    degraded = condition(told, "Degraded")
    assert degraded["reason"] == condition(told, "Ready")["reason"] == "QuotaExceeded"
    assert "1 of 2 replicas of 1 each may be made" in degraded["message"]
    assert condition(told, "Available")["status"] == "True"

    set_quota(api, namespace, 2)

    mended = api.wait("VLLMDeployment", "model", is_ready, namespace)
    assert condition(mended, "Degraded")["status"] == "False"


def test_what_others_hold_of_a_quota_is_counted_and_waited_for(api: Api, namespace: str) -> None:
    set_quota(api, namespace, 1)
    container = {"name": "main", "image": "registry.example.com/app:1", "resources": {"limits": {GPU: "1"}}}
    other = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "other", "namespace": namespace},
        "spec": {"nodeName": "gpu-h100-0", "containers": [container]},
    }
    api.create(other)
    api.wait("Pod", "other", lambda obj: obj["status"]["phase"] == "Running", namespace)

    api.create(model(namespace))

    told = api.wait("VLLMDeployment", "model", reason("Ready", "QuotaExceeded"), namespace)
    assert f"allows 1 {GPUS}, of which others hold 1: 0 of 1" in condition(told, "Ready")["message"]

    api.delete("Pod", "other", namespace)

    api.wait("VLLMDeployment", "model", is_ready, namespace)
