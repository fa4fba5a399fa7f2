"""Compute capability of a GPU: as stated, else by its product's name.

Kernels, and with them block sizes and packings of the KV cache, differ by it. Source: NVIDIA's CUDA GPU list.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vllm_operator.models.facts import Device

Capability = tuple[int, int]
AMPERE: Final = (8, 0)
ADA: Final = (8, 9)
HOPPER: Final = (9, 0)
BLACKWELL: Final = (10, 0)

_STATED = re.compile(r"(\d{1,2})\.(\d)\w?", re.ASCII)
_BY_PRODUCT: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), capability)
    for pattern, capability in (
        (r"\bG?B[123]00", (10, 0)),
        (r"\bGB10\b|DGX.Spark", (12, 1)),
        (r"RTX.?(PRO.?\d{4}|50[5-9]0)|\bB40\b", (12, 0)),
        (r"\bG?H(20|100|200|800)\b", (9, 0)),
        (r"\bL(4|20|40S?)\b|RTX.?(40[5-9]0|\d{4}.?ADA)|\bADA\b", (8, 9)),
        (r"\bA(2|10G?|16|40)\b|RTX.?(30[5-9]0|A\d{4})", (8, 6)),
        (r"\bA(30|100|800)\b", (8, 0)),
        (r"\bT4\b|RTX.?20[6-8]0", (7, 5)),
        (r"\bV100", (7, 0)),
    )
)


def capability_of(device: Device) -> Capability:
    """Return the compute capability; an unknown card counts as Hopper, where vLLM's defaults are tuned."""
    match = _STATED.fullmatch(device.compute_capability or "")
    if match:
        return int(match.group(1)), int(match.group(2))
    return _capability_by_product(device.product or "")


@lru_cache(maxsize=256)
def _capability_by_product(product: str) -> Capability:
    return next((capability for pattern, capability in _BY_PRODUCT if pattern.search(product)), HOPPER)


def is_datacenter_blackwell(capability: Capability) -> bool:
    """Whether the card is of the SM 10.x family (B100, B200, B300), whose kernels consumer Blackwell lacks."""
    return capability[0] == BLACKWELL[0]
