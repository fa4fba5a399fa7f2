"""Product names, as seven sources spell them, to device facts.

`NVIDIA-A100-SXM4-80GB`, `NVIDIA A100-SXM4-80GB`, `nvidia-a100-80gb`, `A100_NVLINK_80GB` and `a100` are read as words,
never as substrings: "A10" is in "A100", "L4" in "L40S" and "B200" in "GB200". Where a name leaves more than one device
open (an A100 has 40 or 80 GB) the memory decides, and where that is not known either, only what all of them share is
said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from vllm_operator.cluster.devices import DEVICES, DeviceFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Value = TypeVar("Value")

MEMORY_TOLERANCE: Final = 0.05
"""Driver versions, ECC and firmware reserve move the visible total by up to 4 % (A100-40: 39538 to 40960 MiB)."""

_SUFFIX: Final = re.compile(r"-(?:SHARED|MIG-.*)$", re.IGNORECASE)
_SEPARATOR: Final = re.compile(r"[^A-Z0-9]+")
_FILLER: Final = frozenset(
    ("NVIDIA", "TESLA", "GEFORCE", "AMD", "INSTINCT", "RADEON", "INTEL", "DATA", "CENTER", "GPU")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductMatch:
    """Devices that a name (and memory, when known) leaves open; none when the product is not in the table."""

    candidates: tuple[DeviceFacts, ...] = ()

    @property
    def known(self) -> bool:
        """Whether the table has the product at all."""
        return bool(self.candidates)

    @property
    def memory_bytes(self) -> int | None:
        """Memory of one whole device as CUDA sees it, where all candidates agree."""
        return self._agreed(lambda device: device.memory_bytes)

    @property
    def compute_capability(self) -> str | None:
        """CUDA compute capability, where all candidates agree."""
        return self._agreed(lambda device: device.compute_capability)

    @property
    def interconnect(self) -> str | None:
        """`NVLink` or `PCIe`, where all candidates agree."""
        return self._agreed(lambda device: device.interconnect)

    @property
    def memory_choices_bytes(self) -> tuple[int, ...]:
        """The different memories that the name leaves open, ascending."""
        return tuple(sorted({device.memory_bytes for device in self.candidates}))

    def closest(self, memory_bytes: int, *, tolerance: float = MEMORY_TOLERANCE) -> ProductMatch:
        """Keep the candidates whose memory, with or without ECC, is within `tolerance` of the given one."""
        return ProductMatch(
            candidates=tuple(
                device
                for device in self.candidates
                if any(
                    abs(total - memory_bytes) <= tolerance * total
                    for total in (device.memory_bytes, device.memory_without_ecc_bytes)
                    if total is not None
                )
            )
        )

    def narrowed_by(self, other: ProductMatch) -> ProductMatch:
        """Keep the candidates that another source allows too; all of them when the two have none in common."""
        common = tuple(device for device in self.candidates if device in other.candidates)
        return ProductMatch(candidates=common) if common else self

    def _agreed(self, read: Callable[[DeviceFacts], Value]) -> Value | None:
        values = {read(device) for device in self.candidates}
        return values.pop() if len(values) == 1 else None


UNKNOWN_PRODUCT: Final = ProductMatch()
"""A product that the table does not have; fine as long as its memory is known."""


@lru_cache(maxsize=1024)
def find_product(product: str | None) -> ProductMatch:
    """Return the devices that a product name may mean."""
    if product is None:
        return UNKNOWN_PRODUCT
    words = normalise(product)
    for length in range(len(words), 0, -1):
        family = _FAMILIES.get(words[:length])
        if family:
            return ProductMatch(candidates=_narrowed(family, frozenset(words[length:])))
    return UNKNOWN_PRODUCT


def normalise(product: str) -> tuple[str, ...]:
    """Return the words that tell products apart: upper case, without the maker, `-SHARED` and `-MIG-…`."""
    words = _SEPARATOR.split(_SUFFIX.sub("", product.strip()).upper())
    return tuple(word for word in words if word and word not in _FILLER)


def _narrowed(family: tuple[DeviceFacts, ...], words: frozenset[str]) -> tuple[DeviceFacts, ...]:
    """Keep the family members with the most of their distinguishing words in the name; with none, the plain ones."""
    hits = {device: len(words & device.marks) for device in family}
    most = max(hits.values())
    best = tuple(device for device in family if hits[device] == most)
    plain = tuple(device for device in best if not device.marks)
    return plain if most == 0 and plain else best


def _families() -> Mapping[tuple[str, ...], tuple[DeviceFacts, ...]]:
    families: dict[tuple[str, ...], tuple[DeviceFacts, ...]] = {}
    for device in DEVICES:
        for name in device.names:
            key = normalise(name)
            families[key] = (*families.get(key, ()), device)
    return families


_FAMILIES: Final = _families()
