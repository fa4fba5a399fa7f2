"""Accelerators of which no memory label exists: Intel GPUs, Gaudi, TPU, Neuron and whatever else counts devices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster import labels as label
from vllm_operator.cluster import reading
from vllm_operator.cluster.clouds import cloud_gpus
from vllm_operator.cluster.memory import from_product
from vllm_operator.cluster.products import find_product
from vllm_operator.cluster.records import GpuClass, NodeGpus, Sharing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.resources import NodeContext, Offered

_INTEL_DEVICE_COUNT: Final = "gpu.intel.com/device.count"
_INTEL_DEVICE_ID: Final = re.compile(
    r"gpu\.intel\.com/device-id\.[0-9a-f]{4}-(?P<device>[0-9a-f]{4})\.(?:present|count)"
)
INTEL_DEVICES: Final = {"0bd5": "Max_1550", "0bda": "Max_1100", "56c0": "Flex_170", "56c1": "Flex_140"}
"""PCI device numbers of Intel's data center GPUs (intel-device-plugins `cmd/gpu_plugin/labels.md`)."""


def other_gpus(node: NodeContext, offered: Offered) -> NodeGpus:
    """Return one resource of a vendor whose devices say no memory: the product's table, or unknown."""
    cloud = cloud_gpus(node.labels)
    product = _intel_product(node.labels) if offered.vendor == "intel" else None
    match = find_product(product) if product else cloud.match
    memory = from_product(match) if product else cloud.memory
    product = product or cloud.product
    if match.known and all(device.vendor != offered.vendor for device in match.candidates):
        match, memory, product = find_product(None), from_product(find_product(None)), None
    clients = _clients(node.labels, offered)
    warnings: tuple[str, ...] = ()
    if memory.memory_bytes is None:
        warnings = (f"the memory of {offered.resource} is unknown: no label, product or instance type gives it",)
    return NodeGpus(
        gpu_class=GpuClass(
            vendor=offered.vendor,
            resource_name=offered.resource,
            product=product,
            memory_bytes=memory.memory_bytes,
            sharing=Sharing.EXCLUSIVE if clients == 1 else Sharing.TIME_SLICED,
            basis=memory.basis,
            interconnect=match.interconnect,
            clients_per_device=clients,
        ),
        capacity=offered.capacity,
        allocatable=offered.allocatable,
        warnings=(*warnings, *memory.warnings),
    )


def _intel_product(labels: Mapping[str, str]) -> str | None:
    named = labels.get(label.INTEL_PRODUCT)
    if named:
        return named
    devices = {found["device"] for key in labels if (found := _INTEL_DEVICE_ID.fullmatch(key))}
    products = {INTEL_DEVICES.get(device) for device in devices}
    return products.pop() if len(products) == 1 else None


def _clients(labels: Mapping[str, str], offered: Offered) -> int | None:
    """Return how many pods one Intel GPU goes to (`-shared-dev-num`), from the devices that NFD counted."""
    devices = reading.whole_number(labels.get(_INTEL_DEVICE_COUNT)) if offered.vendor == "intel" else None
    if not devices or offered.capacity <= devices:
        return 1
    return offered.capacity // devices
