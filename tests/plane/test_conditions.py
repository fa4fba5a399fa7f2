"""Every status that is ever written follows the conventions: a watch sees them all, from the first one on."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import Refused, condition
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

from vllm_operator.api.conditions import TYPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

LATE = {"metadata": {"annotations": {"vllm-operator.test/ready-after-milliseconds": "300"}}}


def seen_until(api: Api, namespace: str, holds: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return every version of the resource until one is as expected."""
    seen: list[dict[str, Any]] = []

    def noted(obj: dict[str, Any]) -> bool:
        seen.append(obj)
        return holds(obj)

    api.wait("VLLMDeployment", "model", noted, namespace)
    return seen


def test_all_conditions_are_there_from_the_first_touch_and_their_times_move_with_their_status_only(
    api: Api, namespace: str
) -> None:
    api.create(deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, podTemplate=LATE))
    seen = seen_until(api, namespace, is_ready)
    api.patch("VLLMDeployment", "model", {"spec": {"workload": {"contextLength": 4096}}}, namespace)
    seen += seen_until(api, namespace, lambda obj: obj["status"]["observedGeneration"] == 2 and is_ready(obj))

    written = [obj for obj in seen if obj.get("status")]
    assert len({obj["metadata"]["resourceVersion"] for obj in written}) > 3, "a rollout goes through several"
    for obj in written:
        status = obj["status"]
        assert {one["type"] for one in status["conditions"]} == set(TYPES)
        assert status["observedGeneration"] <= obj["metadata"]["generation"]
        for one in status["conditions"]:
            assert one["observedGeneration"] == status["observedGeneration"]
            assert one["reason"]
        if obj["metadata"]["generation"] > status["observedGeneration"]:
            continue
        assert is_ready(obj) <= (status["readyReplicas"] == 1), "Ready of this generation has a pod that serves"
    for before, after in pairwise(written):
        for kind in TYPES:
            then, now = condition(before, kind), condition(after, kind)
            if then["status"] == now["status"]:
                assert then["lastTransitionTime"] == now["lastTransitionTime"], kind


def test_kubectl_waits_for_ready(scene: Scene, api: Api, namespace: str) -> None:
    api.create(deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, podTemplate=LATE))
    scene.kubectl("wait", "--for=condition=Ready", "vd/model", "--timeout=20s", f"--namespace={namespace}")
    assert is_ready(api.get("VLLMDeployment", "model", namespace))


def test_spec_status_and_scale_are_written_apart(api: Api, namespace: str) -> None:
    api.create(deployment(namespace, model=LLAMA_8B, workload=WORKLOAD))
    ready = api.wait("VLLMDeployment", "model", is_ready, namespace)

    mixed = {"spec": {"replicas": 0}, "status": {"verdict": "Unknown"}}
    by_status = api.patch("VLLMDeployment", "model", mixed, namespace, subresource="status")
    assert by_status["spec"].get("replicas") == ready["spec"].get("replicas")
    assert by_status["metadata"]["generation"] == 1
    api.wait("VLLMDeployment", "model", lambda obj: obj["status"]["verdict"] == "Fits", namespace)

    by_spec = api.patch("VLLMDeployment", "model", {"status": {"verdict": "Unknown"}}, namespace)
    assert by_spec["status"]["verdict"] == "Fits"

    scale = api.patch("VLLMDeployment", "model", {"spec": {"replicas": 2}}, namespace, subresource="scale")
    assert scale["spec"]["replicas"] == 2
    scaled = api.wait(
        "VLLMDeployment", "model", lambda obj: is_ready(obj) and obj["status"]["replicas"] == 2, namespace
    )
    selector = scaled["status"]["selector"]
    assert len(api.list("Pod", namespace, labelSelector=selector)) == 2
    with pytest.raises(Refused, match=r"replicas"):
        api.patch("VLLMDeployment", "model", {"spec": {"replicas": -1}}, namespace, subresource="scale")
