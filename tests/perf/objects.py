"""What a load is made of: VLLMDeployments, GPU nodes, pods of others."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import yaml
from tests.controlplane.scene import NODES
from tests.plane import models

if TYPE_CHECKING:
    from collections.abc import Iterator

Manifest = dict[str, Any]

API_VERSION = "vllm-operator.io/v1alpha1"
KIND = "VLLMDeployment"
NAME_PREFIX = "m-"
RESOURCES = "/apis/vllm-operator.io/v1alpha1/namespaces/{}/vllmdeployments"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
SERVICES = "/api/v1/namespaces/{}/services"
PODS = "/api/v1/namespaces/{}/pods"
NODES_PATH = "/api/v1/nodes"
NAMESPACES = "/api/v1/namespaces"

MODELS = (models.LLAMA_8B, models.LLAMA_70B, models.QWEN_8B)
"""Models that fit on the nodes."""
CONTEXTS = (2048, 4096, 8192, 12288, 16384, 24576, 32768)
MOST_SEQUENCES = 5
MODELS_AND_A_REFUSAL = (*MODELS, models.LLAMA_405B)
"""With one that no node can hold."""


def resource(namespace: str, number: int, *, among: tuple[str, ...] = MODELS) -> Manifest:
    """Return the n-th VLLMDeployment: of three models, seven contexts and five concurrencies, so 105 questions."""
    return models.deployment(
        namespace,
        name=f"{NAME_PREFIX}{number:05d}",
        model=among[number % len(among)],
        workload={
            "contextLength": CONTEXTS[number % len(CONTEXTS)],
            "concurrency": 1 + number % MOST_SEQUENCES,
        },
    )


def nodes(count: int) -> Iterator[Manifest]:
    """Yield GPU nodes of the examples' kinds in turn, Ready as a kubelet would report them."""
    kinds = _kinds_of_node()
    for number in range(count):
        kind = kinds[number % len(kinds)]
        name = f"node-{number:05d}"
        labels = {**kind["metadata"]["labels"], "kubernetes.io/hostname": name}
        yield {**kind, "metadata": {"name": name, "labels": labels}}


def pods(namespace: str, count: int, *, on_nodes: int) -> Iterator[Manifest]:
    """Yield pods of others, spread over the nodes; every tenth holds a GPU."""
    for number in range(count):
        node = f"node-{number % on_nodes:05d}"
        yield pod(namespace, f"other-{number:05d}", node=node, gpus=1 if number // on_nodes % 10 == 0 else 0)


def pod(namespace: str, name: str, *, node: str, gpus: int = 0) -> Manifest:
    """Return a pod that is nobody's of ours, bound to a node."""
    requests = {"cpu": "250m", "memory": "512Mi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    container = {"name": "main", "image": "example.com/other", "resources": {"requests": requests, "limits": limits}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "other"}},
        "spec": {"nodeName": node, "containers": [container]},
    }


def deployment(namespace: str, name: str) -> Manifest:
    """Return a Deployment of anything."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "example.com/any"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def service(namespace: str, name: str) -> Manifest:
    """Return a Service of anything."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    }


@cache
def _kinds_of_node() -> tuple[Manifest, ...]:
    documents = yaml.load_all(NODES.read_text(), yaml.CSafeLoader)
    return tuple(node for node in documents if "nvidia.com/gpu.product" in node["metadata"]["labels"])
