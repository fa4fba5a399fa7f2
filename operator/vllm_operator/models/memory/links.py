"""What a product's name says about the paths between cards and the memory they have."""

from __future__ import annotations

import functools

from vllm_operator.models.memory.terms import Link

_UNIFIED_NAMES = ("gb10", "dgx spark", "thor", "strix", "apu")
_FABRIC_NAMES = ("h100", "h200", "h800", "h20", "b200", "b300", "gb200", "gb300", "gh200")
_SWITCH_NAMES = ("a100", "a800")
_BUS_NAMES = ("nvl", "pcie")


@functools.lru_cache(maxsize=256)
def has_fabric(product: str | None) -> bool:
    """Whether ranks on this card talk over NVLink switches of Hopper or later, by its name.

    There the all-reduce kernels of NCCL (NVLS), FlashInfer and symmetric memory allocate gigabytes of buffers.
    """
    name = (product or "").lower()
    return any(part in name for part in _FABRIC_NAMES) and not any(part in name for part in _BUS_NAMES)


@functools.lru_cache(maxsize=256)
def link_of(product: str | None) -> Link:
    """What joins several cards of that name; PCIe unless the name says otherwise."""
    if has_fabric(product):
        return Link.FABRIC
    name = (product or "").lower()
    is_switched = any(part in name for part in _SWITCH_NAMES) and not any(part in name for part in _BUS_NAMES)
    return Link.SWITCH if is_switched else Link.BUS


@functools.lru_cache(maxsize=256)
def has_unified_memory(product: str | None) -> bool:
    """Whether CPU and GPU share one memory, by the product's name."""
    name = (product or "").lower()
    return any(part in name for part in _UNIFIED_NAMES)
