"""What becomes of a node under running pods is said, and the pods are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import condition
from tests.plane.events import events_told
from tests.plane.machines import GPU, gpu_node
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.client import Api

pytestmark = pytest.mark.control_plane

TOLD_WITHIN_SECONDS = 3.0
LABEL = "vllm-operator.test/pool"
KWOK_NOT_READY = "node-not-ready.stage.kwok.x-k8s.io"


@pytest.fixture
def node(own_nodes: Callable[..., None], namespace: str) -> str:
    """A node with eight GPUs, of which a ready model uses one."""
    name = f"{namespace}-node"
    own_nodes(gpu_node(name, gpus=8, labels={LABEL: name}))
    return name


@pytest.fixture
def ready(api: Api, namespace: str, node: str) -> dict[str, Any]:
    api.create(deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, gpu={"nodeSelector": {LABEL: node}}))
    return api.wait("VLLMDeployment", "model", is_ready, namespace)


def degraded(reason: str) -> Callable[[dict[str, Any]], bool]:
    return lambda obj: condition(obj, "Degraded").get("reason") == reason


def pods(api: Api, namespace: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in api.list("Pod", namespace)}


def test_gpus_that_become_unhealthy_are_counted_and_the_model_serves_on(
    api: Api, own_nodes: Callable[..., None], namespace: str, node: str, ready: dict[str, Any]
) -> None:
    before = pods(api, namespace)

    for gpus in ("7", "6"):
        # What a device plugin does with a GPU that has failed: it is still there, and nobody gets it.
        api.patch("Node", node, {"status": {"allocatable": {GPU: gpus}}}, subresource="status")
        told = api.wait(
            "VLLMDeployment",
            "model",
            lambda obj, gpus=gpus: f"{gpus} of its 8 {GPU}" in condition(obj, "Degraded").get("message", ""),
            namespace,
            seconds=TOLD_WITHIN_SECONDS,
        )
    assert condition(told, "Degraded")["reason"] == "GpusUnhealthy"
    assert is_ready(told)
    assert pods(api, namespace) == before
    said = events_told(api, namespace, "GpusUnhealthy")
    assert [event["type"] for event in said] == ["Warning"], "said once, however many fail"

    api.patch("Node", node, {"status": {"allocatable": {GPU: "8"}}}, subresource="status")
    api.wait("VLLMDeployment", "model", degraded("AsExpected"), namespace, seconds=TOLD_WITHIN_SECONDS)


def says_ready(status: str) -> Callable[[dict[str, Any]], bool]:
    return lambda node: any(one["type"] == "Ready" and one["status"] == status for one in node["status"]["conditions"])


def test_a_node_that_is_not_ready_is_named_and_its_pods_are_left_to_it(
    api: Api, own_nodes: Callable[..., None], namespace: str, node: str, ready: dict[str, Any]
) -> None:
    before = pods(api, namespace)

    api.patch("Node", node, {"metadata": {"labels": {KWOK_NOT_READY: "true"}}})
    api.wait("Node", node, says_ready("False"))

    told = api.wait("VLLMDeployment", "model", degraded("NodeNotReady"), namespace, seconds=TOLD_WITHIN_SECONDS)
    text = f"node {node}, on which pods of this model run, is not ready; see kubectl describe node {node}"
    assert condition(told, "Degraded")["message"] == text
    assert told["status"]["plan"]["hash"] == ready["status"]["plan"]["hash"]
    said = events_told(api, namespace, "NodeNotReady")
    assert [(event["type"], event["note"]) for event in said] == [("Warning", text)]
    assert pods(api, namespace) == before

    api.patch("Node", node, {"metadata": {"labels": {KWOK_NOT_READY: None}}})
    api.wait("Node", node, says_ready("True"))

    api.wait("VLLMDeployment", "model", degraded("AsExpected"), namespace, seconds=TOLD_WITHIN_SECONDS)


def test_a_node_that_comes_back_with_other_gpus_makes_the_plan_stale_until_it_is_made_anew(
    api: Api, own_nodes: Callable[..., None], namespace: str, node: str, ready: dict[str, Any]
) -> None:
    before, plan = pods(api, namespace), ready["status"]["plan"]
    labels = {"nvidia.com/gpu.product": "NVIDIA-H200", "nvidia.com/gpu.memory": "143771"}

    api.patch("Node", node, {"metadata": {"labels": labels}})

    told = api.wait("VLLMDeployment", "model", degraded("Stale"), namespace, seconds=TOLD_WITHIN_SECONDS)
    message = condition(told, "Degraded")["message"]
    assert f"node {node} has NVIDIA-H200 with 140.4 GiB now" in message
    assert f"a plan for {plan['gpuProduct']} with 79.6 GiB; delete them to have it planned anew" in message
    assert is_ready(told)
    assert told["status"]["plan"]["hash"] == plan["hash"]
    assert pods(api, namespace) == before

    (pod,) = api.list("Pod", namespace)
    api.delete("Pod", pod["metadata"]["name"], namespace)

    anew = api.wait("VLLMDeployment", "model", lambda obj: is_ready(obj) and degraded("AsExpected")(obj), namespace)
    assert anew["status"]["plan"]["gpuProduct"] == "NVIDIA-H200"
