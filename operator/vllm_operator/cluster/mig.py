"""MIG slices: resources of their own (`mixed`), or slices that pass for GPUs (`single`, GKE partitions)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster.devices import GIB, MIB, MIG_SLICES_MIB
from vllm_operator.cluster.memory import UNKNOWN_MEMORY, MemoryFigure, judge_label
from vllm_operator.cluster.products import UNKNOWN_PRODUCT
from vllm_operator.cluster.records import Basis

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PROFILE: Final = re.compile(r"(?P<compute>[0-9]{1,2})g\.(?P<memory_gb>[0-9]{1,4})gb(?:[.+-][a-z0-9.+-]+)?")
_RESOURCE: Final = re.compile(r"nvidia\.com/mig-(?P<profile>.+?)(?:\.shared)?")
_LABEL: Final = re.compile(r"nvidia\.com/mig-(?P<profile>.+)\.(?:product|memory|count)")
_PRODUCT: Final = re.compile(r".*-MIG-(?P<profile>[0-9]+g\.[0-9]+gb.*?)(?:-SHARED)?", re.IGNORECASE)

SLICES_PER_CARD: Final = 7
"""Compute slices of one card (A30 has 4, which only makes a count of cards smaller than it is)."""
ROUNDING_GB: Final = 2
"""Names of the same slice differ by up to this between drivers (`3g.20gb` and `3g.21gb`)."""
USABLE_SHARE: Final = (0.75, 1.06)
"""Usable memory over the profile's name: 1g.18gb has 16.0 GiB, 1g.5gb 4.75."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A MIG profile: `1g.10gb`, with `.me` or `+me` where the media engines belong to it."""

    name: str
    compute_slices: int
    memory_gb: int


def read_profile(name: str) -> Profile | None:
    """Return the profile that a name means, or None when it is not one."""
    found = _PROFILE.fullmatch(name.lower())
    if found is None:
        return None
    return Profile(name=name.lower(), compute_slices=int(found["compute"]), memory_gb=int(found["memory_gb"]))


def profile_of_resource(resource: str) -> Profile | None:
    """Return the profile behind `nvidia.com/mig-…`, shared or not."""
    found = _RESOURCE.fullmatch(resource)
    return read_profile(found["profile"]) if found else None


def profile_of_product(product: str | None) -> Profile | None:
    """Return the profile in a product name of the strategy `single`."""
    found = _PRODUCT.fullmatch(product) if product else None
    return read_profile(found["profile"]) if found else None


def label_prefix(labels: Mapping[str, str], wanted: Profile) -> str | None:
    """Return the beginning of the labels for a slice: the same name, or the only one that differs by rounding."""
    known = {found["profile"] for label in labels if (found := _LABEL.fullmatch(label))}
    if wanted.name in known:
        return f"nvidia.com/mig-{wanted.name}"
    near = [name for name in sorted(known) if _is_same_slice(read_profile(name), wanted)]
    return f"nvidia.com/mig-{near[0]}" if len(near) == 1 else None


def slice_memory(labels: Mapping[str, str], label: str | None, profile: Profile) -> MemoryFigure:
    """Return a slice's memory from its label, else from the table of profiles.

    A label that cannot be this slice's (a whole card's figure left behind, 0) gives way to the table.
    """
    table = _from_table(profile)
    value = labels.get(label) if label else None
    if label is None or value is None:
        return table
    figure = judge_label(label, value, UNKNOWN_PRODUCT)
    if figure.memory_bytes is None:
        return MemoryFigure(memory_bytes=table.memory_bytes, basis=table.basis, warnings=figure.warnings)
    share = figure.memory_bytes / (profile.memory_gb * GIB)
    if USABLE_SHARE[0] <= share <= USABLE_SHARE[1]:
        return figure
    complaint = f"label {label}={value!r} is not the memory of a {profile.name} slice"
    return MemoryFigure(memory_bytes=table.memory_bytes, basis=table.basis, warnings=(complaint,))


def cards_in_slices(offered: Iterable[tuple[str, int]]) -> int:
    """Return how many cards, at least, the MIG resources of a node take."""
    compute = 0
    for resource, number in offered:
        profile = profile_of_resource(resource)
        if profile is not None:
            compute += profile.compute_slices * number
    return -(-compute // SLICES_PER_CARD)


def _from_table(profile: Profile) -> MemoryFigure:
    plain = f"{profile.compute_slices}g.{profile.memory_gb}gb"
    mib = MIG_SLICES_MIB.get(plain)
    return UNKNOWN_MEMORY if mib is None else MemoryFigure(memory_bytes=mib * MIB, basis=Basis.PRODUCT_TABLE)


def _is_same_slice(known: Profile | None, wanted: Profile) -> bool:
    return (
        known is not None
        and known.compute_slices == wanted.compute_slices
        and abs(known.memory_gb - wanted.memory_gb) <= ROUNDING_GB
        and ("me" in known.name) == ("me" in wanted.name)
    )
