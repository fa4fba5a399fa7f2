"""How much memory one device has, judged from what several sources say of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster.devices import GIB, MIB
from vllm_operator.cluster.products import MEMORY_TOLERANCE
from vllm_operator.cluster.records import Basis

if TYPE_CHECKING:
    from vllm_operator.cluster.products import ProductMatch

SMALLEST_MIB: Final = 512
"""Less than any device or slice has: such a number is not in MiB."""
LARGEST_MIB: Final = 2**20
"""1 TiB, more than any single device has."""

_LABEL: Final = re.compile(r"(?P<number>[0-9]{1,18})\s*(?P<unit>[A-Za-z]*)")
_EXACT_UNITS: Final = {"mi": MIB, "mib": MIB, "gi": GIB, "gib": GIB}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFigure:
    """Memory of one device as a pod gets it; `memory_bytes` is None when nothing trustworthy was found."""

    memory_bytes: int | None = None
    basis: Basis = Basis.UNKNOWN
    warnings: tuple[str, ...] = ()


UNKNOWN_MEMORY: Final = MemoryFigure()


def judge_label(label: str, value: str, match: ProductMatch) -> MemoryFigure:
    """Read a memory label meant to be in MiB, against what is known of the product.

    Labels are written by hand too, so 0, a unit, bytes, or twice the product's memory do occur. Such a value is
    replaced by the product's own memory where the product is known, and otherwise dropped: unknown is better than
    wrong. A value below the product's is kept, because promising less is safe.
    """
    stated, complaint = _stated_bytes(value)
    if stated is not None and match.known and not match.closest(stated).known:
        choices = match.memory_choices_bytes
        if stated < choices[0] * (1 - MEMORY_TOLERANCE):
            complaint = f"is below the {_mib(choices[0])} of that product; the smaller figure is used"
        else:
            known = " or ".join(_mib(choice) for choice in choices)
            stated, complaint = None, f"does not agree with that product, which has {known}"
    if stated is not None:
        warnings = (f"label {label}={value!r} {complaint}",) if complaint else ()
        return MemoryFigure(memory_bytes=stated, basis=Basis.NODE_LABEL, warnings=warnings)
    fallback = from_product(match)
    used = f"using the product's {_mib(fallback.memory_bytes)}" if fallback.memory_bytes else "the memory is unknown"
    return MemoryFigure(
        memory_bytes=fallback.memory_bytes,
        basis=fallback.basis,
        warnings=(f"label {label}={value!r} {complaint}; {used}",),
    )


def from_product(match: ProductMatch, *, basis: Basis = Basis.PRODUCT_TABLE) -> MemoryFigure:
    """Return the product table's figure, unknown when the name leaves more than one memory open."""
    memory_bytes = match.memory_bytes
    return UNKNOWN_MEMORY if memory_bytes is None else MemoryFigure(memory_bytes=memory_bytes, basis=basis)


def _stated_bytes(value: str) -> tuple[int | None, str]:
    """Return what a label says in bytes, and what is odd about the way it says it."""
    found = _LABEL.fullmatch(value.strip())
    if found is None:
        return None, "is not a number of MiB"
    number, unit = int(found["number"]), found["unit"].lower()
    if number == 0:
        return None, "is 0"
    if unit:
        scale = _EXACT_UNITS.get(unit)
        if scale is None:
            return None, "is not a plain number of MiB and its unit leaves the size open"
        return _plausible(number * scale, f"carries a unit; read as {_mib(number * scale)}")
    if number >= LARGEST_MIB * 1024:
        return _plausible(number, f"is in bytes, not MiB; read as {_mib(number)}")
    return _plausible(number * MIB, "")


def _plausible(stated: int, complaint: str) -> tuple[int | None, str]:
    if SMALLEST_MIB * MIB <= stated <= LARGEST_MIB * MIB:
        return stated, complaint
    return None, "is not a plausible number of MiB"


def _mib(memory_bytes: int) -> str:
    return f"{memory_bytes // MIB:,} MiB"
