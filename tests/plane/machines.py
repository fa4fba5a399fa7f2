"""Nodes and pods of a test's own, so that the shared ones stay as every test finds them."""

from __future__ import annotations

from typing import Any

H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}
GPU = "nvidia.com/gpu"


def gpu_node(name: str, *, gpus: int = 1, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a node that KWOK keeps Ready, with H100s as GPU Feature Discovery labels them."""
    size = {"cpu": "64", "memory": "512Gi", "pods": "110", "ephemeral-storage": "1Ti", GPU: str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, **H100, **(labels or {})},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {"capacity": size, "allocatable": dict(size)},
    }


def node_is_ready(node: dict[str, Any]) -> bool:
    """Whether the node says so, and nothing keeps pods off it."""
    said = {entry["type"]: entry["status"] for entry in node["status"].get("conditions") or []}
    return said.get("Ready") == "True" and not (node.get("spec") or {}).get("taints")
