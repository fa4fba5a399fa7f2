"""Which of a node's extended resources are accelerators that a pod can ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster import reading

if TYPE_CHECKING:
    from collections.abc import Mapping

VENDOR_OF_RESOURCE: Final[tuple[tuple[str, str], ...]] = (
    # A sharing rule may rename the resource (`nvidia.com/gpu.shared`); a MIG profile is a resource of its own.
    (r"nvidia\.com/gpu(?:[.-][a-z0-9.-]+)?", "nvidia"),
    (r"nvidia\.com/mig-[0-9]+g\.[0-9]+gb(?:[.+-][a-z0-9.+-]+)?", "nvidia"),
    (r"k8s\.amazonaws\.com/vgpu", "nvidia"),
    (r"volcano\.sh/vgpu-number", "nvidia"),
    (r"amd\.com/gpu", "amd"),
    (r"amd\.com/[sdqc]px_nps[0-9]+", "amd"),
    # Not gpu.intel.com/monitoring, i915_monitoring, xe_monitoring, millicores, memory.max or tiles.
    (r"gpu\.intel\.com/(?:i915|xe)", "intel"),
    (r"habana\.ai/(?:gaudi|goya)", "habana"),
    (r"google\.com/tpu", "google"),
    # neuroncore and neurondevice are the same devices again in another unit.
    (r"aws\.amazon\.com/neuron", "aws"),
    (r"huawei\.com/[Aa]scend(?:[0-9]+[A-Za-z0-9]*)?", "huawei"),
    (r"cambricon\.com/(?:mlu|real-mlu-counts)", "cambricon"),
    (r"hygon\.com/dcu", "hygon"),
    (r"metax-tech\.com/gpu", "metax"),
    (r"mthreads\.com/gpu", "mthreads"),
    (r"qualcomm\.com/qaic", "qualcomm"),
)
"""Resources that count devices, and who makes them. Memory and core counters of sharing layers are not devices."""

_NOT_A_DEVICE: Final = re.compile(r"[.-](?:mem|memory|cores?|millicores|monitoring|memory-percentage)$")
_PATTERNS: Final = tuple((re.compile(pattern), vendor) for pattern, vendor in VENDOR_OF_RESOURCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """One accelerator resource of a node, as kubelet states it."""

    vendor: str
    resource: str
    capacity: int
    allocatable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeContext:
    """What the vendors' readers may use of a node to say what is behind its resources."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, Any]
    offered: tuple[Offered, ...]


def offered_resources(status: Mapping[str, Any]) -> tuple[Offered, ...]:
    """Return the accelerator resources of a node's status, by name; resources of which there are none are left out."""
    capacity = reading.mapping_at(status, "capacity")
    allocatable = allocatable_of(status)
    offered = []
    for resource in sorted({name for name in (*capacity, *allocatable) if isinstance(name, str) and "/" in name}):
        vendor = vendor_of(resource)
        if vendor is None:
            continue
        can = reading.whole_quantity(allocatable.get(resource)) or 0
        has = max(reading.whole_quantity(capacity.get(resource)) or 0, can)
        if has:
            offered.append(Offered(vendor=vendor, resource=resource, capacity=has, allocatable=can))
    return tuple(offered)


def allocatable_of(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a node lets pods have; a status without it means its capacity, as the API server's default does."""
    return reading.mapping_at(status, "allocatable" if "allocatable" in status else "capacity")


@lru_cache(maxsize=1024)
def vendor_of(resource: str) -> str | None:
    """Return the maker of the devices behind a resource, or None when it is not an accelerator of its own."""
    if _NOT_A_DEVICE.search(resource):
        return None
    return next((vendor for pattern, vendor in _PATTERNS if pattern.fullmatch(resource)), None)
