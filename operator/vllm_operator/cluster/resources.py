"""Which of a node's extended resources are accelerators that a pod can ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.cluster import reading

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """One accelerator resource of a node, as kubelet states it."""

    vendor: str
    resource: str
    capacity: int
    allocatable: int


def offered_resources(status: Mapping[str, Any]) -> tuple[Offered, ...]:
    """Return the accelerator resources of a node's status, by name; resources of which there are none are left out."""
    capacity = reading.mapping_at(status, "capacity")
    allocatable = reading.mapping_at(status, "allocatable")
    offered = []
    for resource in sorted({name for name in (*capacity, *allocatable) if isinstance(name, str)}):
        vendor = vendor_of(resource)
        if vendor is None:
            continue
        can = reading.whole_quantity(allocatable.get(resource)) or 0
        has = reading.whole_quantity(capacity.get(resource))
        has = can if has is None else max(has, can)
        if has:
            offered.append(Offered(vendor=vendor, resource=resource, capacity=has, allocatable=can))
    return tuple(offered)


def vendor_of(resource: str) -> str | None:
    """Return the maker of the devices behind a resource, or None when it is not an accelerator of its own."""
    return "nvidia" if resource == "nvidia.com/gpu" else None
