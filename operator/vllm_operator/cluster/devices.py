"""Facts of GPU products, for what a node does not say itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 2**20
GIB: Final = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """One product: memory of one device as the driver reports it, and what its makers say of its speed."""

    vendor: str
    product: str
    names: tuple[str, ...]
    """Names that begin like this mean this product or one of its siblings."""
    marks: frozenset[str] = frozenset()
    """Words after the name that tell it from its siblings."""
    memory_bytes: int
    compute_capability: str | None = None
    interconnect: str | None = None


def _nvidia(
    product: str, memory_mib: int, compute_capability: str, interconnect: str, *names: str, marks: str = ""
) -> DeviceFacts:
    return DeviceFacts(
        vendor="nvidia",
        product=product,
        names=names or (product,),
        marks=frozenset(marks.upper().split()),
        memory_bytes=memory_mib * MIB,
        compute_capability=compute_capability,
        interconnect=interconnect,
    )


DEVICES: Final[tuple[DeviceFacts, ...]] = (
    _nvidia("H100 SXM 80GB", 81559, "9.0", "NVLink", "H100", marks="HBM3 SXM SXM5 NVLINK MEGA 80GB"),
    _nvidia("H100 PCIe 80GB", 81559, "9.0", "PCIe", "H100", marks="PCIE 80GB"),
    _nvidia("H100 NVL 94GB", 95830, "9.0", "NVLink", "H100", marks="NVL 94GB"),
    _nvidia("H200 SXM 141GB", 143771, "9.0", "NVLink", "H200"),
    _nvidia("A100 40GB", 40960, "8.0", "NVLink", "A100", marks="40GB"),
    _nvidia("A100 80GB", 81920, "8.0", "NVLink", "A100", marks="80GB"),
    _nvidia("L4", 23034, "8.9", "PCIe"),
    _nvidia("L40S", 46068, "8.9", "PCIe"),
    _nvidia("L40", 46068, "8.9", "PCIe"),
    _nvidia("T4", 15360, "7.5", "PCIe"),
    _nvidia("A10G", 23028, "8.6", "PCIe"),
    _nvidia("A10", 23028, "8.6", "PCIe"),
)
