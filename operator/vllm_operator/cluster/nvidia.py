"""NVIDIA GPUs behind the device plugin: what GPU Feature Discovery writes, and what a pod then gets.

Label semantics: NVIDIA/k8s-device-plugin `internal/lm/{nvml,resource,mig-strategy}.go`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster import reading
from vllm_operator.cluster.devices import MIB
from vllm_operator.cluster.products import find_product
from vllm_operator.cluster.records import Basis, GpuClass, NodeGpus, Sharing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.resources import Offered

PRODUCT: Final = "nvidia.com/gpu.product"
MEMORY: Final = "nvidia.com/gpu.memory"
REPLICAS: Final = "nvidia.com/gpu.replicas"
SHARING: Final = "nvidia.com/gpu.sharing-strategy"
COMPUTE_MAJOR: Final = "nvidia.com/gpu.compute.major"
COMPUTE_MINOR: Final = "nvidia.com/gpu.compute.minor"

_MIG_RESOURCE: Final = re.compile(r"nvidia\.com/mig-(?P<profile>[0-9]+g\.[0-9]+gb(?:\.[a-z0-9.-]+?)?)(?:\.shared)?$")


def nvidia_gpus(labels: Mapping[str, str], offered: Offered) -> NodeGpus:
    """Return one NVIDIA resource of a node with what its labels say of the devices behind it."""
    product = labels.get(PRODUCT)
    match = find_product(product)
    memory_mib = reading.whole_number(labels.get(MEMORY))
    memory = memory_mib * MIB if memory_mib else match.memory_bytes
    basis = Basis.NODE_LABEL if memory_mib else (Basis.PRODUCT_TABLE if memory else Basis.UNKNOWN)
    major = labels.get(COMPUTE_MAJOR)
    compute = f"{major}.{labels.get(COMPUTE_MINOR, '0')}" if major else match.compute_capability
    gpu_class = GpuClass(
        vendor="nvidia",
        resource_name=offered.resource,
        product=product,
        memory_bytes=memory,
        compute_capability=compute,
        sharing=Sharing.EXCLUSIVE,
        basis=basis,
        interconnect=match.interconnect,
    )
    return NodeGpus(gpu_class=gpu_class, capacity=offered.capacity, allocatable=offered.allocatable)
