"""Capacity behind APIs that not every cluster has: devices of DRA drivers, and nodes that an autoscaler would add."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import condition
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

from vllm_operator.runtime.optional_watch import LOOK_AGAIN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

REJUDGED_WITHIN_SECONDS = 2.0
NODE = "dra-b200-0"
DRIVER = "gpu.nvidia.com"
POOL = {"vllm-operator.test/pool": "of-this-test"}
"""Label of the capacity that only this test has."""


def verdict(expected: str) -> Callable[[dict[str, Any]], bool]:
    return lambda obj: condition(obj, "Feasible").get("reason") == expected


@pytest.fixture
def applied(scene: Scene) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Apply cluster-scoped objects; they are gone after the test."""
    texts: list[str] = []

    def apply(obj: dict[str, Any]) -> None:
        texts.append(json.dumps(obj))
        scene.kubectl("apply", "--server-side", "-f", "-", text=texts[-1])

    yield apply
    for text in reversed(texts):
        scene.kubectl("delete", "--ignore-not-found", "--wait=true", "-f", "-", text=text)


def node_pool_crd() -> dict[str, Any]:
    """As much of Karpenter's NodePool as there has to be: the group, the kind and any content."""
    content = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "nodepools.karpenter.sh"},
        "spec": {
            "group": "karpenter.sh",
            "scope": "Cluster",
            "names": {"kind": "NodePool", "listKind": "NodePoolList", "plural": "nodepools", "singular": "nodepool"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": content}},
            ],
        },
    }


def node_pool() -> dict[str, Any]:
    requirements = [
        {"key": f"karpenter.k8s.aws/instance-gpu-{key}", "operator": "In", "values": [value]}
        for key, value in {"name": "h200", "count": "8", "memory": "144384"}.items()
    ]
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": "h200"},
        "spec": {"template": {"metadata": {"labels": POOL}, "spec": {"requirements": requirements}}},
    }


def test_a_pool_that_could_bring_the_gpus_makes_the_verdict_fits_when_scaled(
    scene: Scene, api: Api, applied: Callable[[dict[str, Any]], None], namespace: str
) -> None:
    wanted = deployment(
        namespace, model=LLAMA_8B, workload=WORKLOAD, gpu={"nodeSelector": POOL}, policy={"admission": "Warn"}
    )
    api.create(wanted)
    api.wait("VLLMDeployment", "model", verdict("DoesNotFit"), namespace)

    applied(node_pool_crd())
    scene.kubectl("wait", "--for=condition=Established", "crd/nodepools.karpenter.sh", "--timeout=30s")
    applied(node_pool())
    api.wait("VLLMDeployment", "model", verdict("FitsWhenScaled"), namespace, seconds=2 * LOOK_AGAIN_SECONDS)
    rendered = api.wait("Deployment", "model", bool, namespace)
    affinity = rendered["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert {"key": "karpenter.sh/nodepool", "operator": "In", "values": ["h200"]} in term["matchExpressions"]

    scene.kubectl("delete", "nodepools.karpenter.sh", "h200", "--wait=true")
    api.wait("VLLMDeployment", "model", verdict("DoesNotFit"), namespace, seconds=REJUDGED_WITHIN_SECONDS)
    applied(node_pool())
    api.wait("VLLMDeployment", "model", verdict("FitsWhenScaled"), namespace, seconds=REJUDGED_WITHIN_SECONDS)


def dra_node() -> dict[str, Any]:
    size = {"cpu": "96", "memory": "1000Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "labels": {"kubernetes.io/hostname": NODE, **POOL},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {"capacity": size, "allocatable": size},
    }


def device_class() -> dict[str, Any]:
    """As NVIDIA's driver installs it."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": DRIVER},
        "spec": {"selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]},
    }


def resource_slice(devices: int) -> dict[str, Any]:
    attributes = {
        "type": {"string": "gpu"},
        "productName": {"string": "NVIDIA B200"},
        "cudaComputeCapability": {"version": "10.0.0"},
    }
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{NODE}-{DRIVER}"},
        "spec": {
            "driver": DRIVER,
            "nodeName": NODE,
            "pool": {"name": NODE, "generation": 1, "resourceSliceCount": 1},
            "devices": [
                {"name": f"gpu-{number}", "attributes": attributes, "capacity": {"memory": {"value": "183359Mi"}}}
                for number in range(devices)
            ],
        },
    }


def test_devices_of_a_driver_are_counted_requested_and_held(
    api: Api, applied: Callable[[dict[str, Any]], None], namespace: str
) -> None:
    wish = {"model": LLAMA_8B, "workload": WORKLOAD, "gpu": {"nodeSelector": POOL}, "policy": {"admission": "Warn"}}
    api.create(deployment(namespace, **wish))
    api.wait("VLLMDeployment", "model", verdict("DoesNotFit"), namespace)

    applied(dra_node())
    applied(device_class())
    applied(resource_slice(1))
    ready = api.wait("VLLMDeployment", "model", is_ready, namespace)
    assert ready["status"]["plan"]["gpuProduct"] == "NVIDIA B200"
    (pod,) = api.list("Pod", namespace)
    assert pod["spec"]["nodeName"] == NODE

    api.create(deployment(namespace, name="second", **wish))
    api.wait("VLLMDeployment", "second", verdict("FitsIfFreed"), namespace)
    still = api.get("VLLMDeployment", "model", namespace)
    assert still["status"]["verdict"] == "Fits", "its own device is credited to it"
