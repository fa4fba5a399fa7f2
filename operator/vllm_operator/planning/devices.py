"""From what a node offers to what the memory model asks: one device as CUDA shows it to a pod."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from vllm_operator.models.facts import Device
from vllm_operator.models.visible_memory import names_slice, visible_memory

if TYPE_CHECKING:
    from vllm_operator.cluster.records import GpuClass

VISIBLE_SHARE: Final = 0.985
"""CUDA shows 0.96 (L4) to 0.995 (H100) of the driver's total; for products that no start-up log named."""
SAME_DEVICE: Final = (0.93, 1.0)
"""A measured figure belongs to the device when it is this share of the driver's total, not more and not a part."""


@lru_cache(maxsize=256)
def device_for(gpu_class: GpuClass) -> Device | None:
    """Return the device that a pod on this class gets, or None while its memory is unknown.

    `gpu_memory_utilization` is a share of what `torch.cuda.mem_get_info` shows, which is below the driver's total that
    labels carry (an H100: 79.18 GiB of 79.65). The measured figure of the product is taken where it can be that device.
    """
    total = gpu_class.memory_bytes
    if total is None:
        return None
    return Device(
        product=gpu_class.product,
        memory_bytes=_visible_bytes(gpu_class.product, total),
        compute_capability=gpu_class.compute_capability,
        vendor=gpu_class.vendor,
    )


def _visible_bytes(product: str | None, total: int) -> int:
    """What a log named, else the lower of what a like card and the usual share would give."""
    usual = int(total * VISIBLE_SHARE)
    known = visible_memory(product.replace("-", " ").replace("_", " ")) if product else None
    if known is None or names_slice(product) or not SAME_DEVICE[0] <= known.bytes / total <= SAME_DEVICE[1]:
        return usual
    return known.bytes if known.measured else min(known.bytes, usual)
