"""GPUs that do not exist: labels as GPU Feature Discovery sets them, and a node's status that counts them.

Scheduler, kubelet and planner take them for real; inside the container there is no device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.node.layout import NODE_NAME

if TYPE_CHECKING:
    from tests.controlplane.client import Api

COUNT = 8
LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-L4",
    "nvidia.com/gpu.memory": "23034",
    "nvidia.com/gpu.count": str(COUNT),
    "nvidia.com/gpu.family": "ada-lovelace",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "9",
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.replicas": "1",
    "nvidia.com/gpu.sharing-strategy": "none",
    "nvidia.com/mig.capable": "false",
    "nvidia.com/cuda.driver-version.major": "570",
}


def pretend(api: Api) -> None:
    """Give the node its GPUs and wait until the kubelet has kept them in a status of its own."""
    offered = {"nvidia.com/gpu": str(COUNT)}
    api.patch("Node", NODE_NAME, {"metadata": {"labels": LABELS}})
    api.patch("Node", NODE_NAME, {"status": {"capacity": offered, "allocatable": offered}}, subresource="status")
