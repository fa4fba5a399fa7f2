"""Tolerant readers for objects that the cluster, a user or a dump tool wrote.

Nothing here raises: what cannot be read is absent (`None`, an empty mapping, an empty tuple), because one odd node
must not hide the other 4,999 from the planner.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
"""The empty mapping, shared."""

LARGEST: Final = 2**63 - 1
"""Kubernetes quantities are int64 at most; anything above is not a figure of a cluster."""

MANAGED_BY: Final = "vllm-operator"

_SUFFIXES: Final[Mapping[str, Fraction]] = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}


def mapping_at(obj: object, *path: str) -> Mapping[str, Any]:
    """Return the mapping at `path`, or an empty one."""
    for key in path:
        if not isinstance(obj, Mapping):
            return NOTHING
        obj = obj.get(key)
    return obj if isinstance(obj, Mapping) else NOTHING


def items_at(obj: object, *path: str) -> tuple[Mapping[str, Any], ...]:
    """Return the mappings in the list at `path`; anything else in it is left out."""
    value = mapping_at(obj, *path[:-1]).get(path[-1])
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(item for item in value if isinstance(item, Mapping))


def text(value: object) -> str | None:
    """Return a non-empty string as it is, else None."""
    return value if isinstance(value, str) and value else None


def strings(mapping: Mapping[str, Any]) -> dict[str, str]:
    """Return the entries of a label or annotation map; YAML's unquoted `true` and `8` read as what was meant."""
    return {
        key: value if isinstance(value, str) else _scalar(value)
        for key, value in mapping.items()
        if isinstance(key, str) and isinstance(value, (str, bool, int))
    }


def whole_number(value: object) -> int | None:
    """Return a non-negative integer from `8` or `"8"`; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 0 <= value <= LARGEST else None
    if isinstance(value, str):
        stripped = value.strip()
        if stripped.isascii() and stripped.isdigit() and len(stripped) <= 19:
            return whole_number(int(stripped))
    return None


def quantity(value: object) -> Fraction | None:
    """Return a Kubernetes quantity (`8`, `1500m`, `40Gi`, `1e3`) exactly; None when it is not one or is negative."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value) if 0 <= value <= LARGEST else None
    if isinstance(value, float):
        return _quantity(repr(value))
    return _quantity(value) if isinstance(value, str) and len(value) <= 40 else None


def whole_quantity(value: object) -> int | None:
    """Return a quantity rounded down to whole units (what a node has)."""
    exact = quantity(value)
    return None if exact is None else int(exact)


def needed_quantity(value: object) -> int | None:
    """Return a quantity rounded up to whole units (what a pod needs)."""
    exact = quantity(value)
    return None if exact is None else -int(-exact // 1)


def thousandths(value: object) -> int | None:
    """Return a CPU quantity in thousandths of a core, rounded up as the scheduler does."""
    exact = quantity(value)
    return None if exact is None else -int(-exact * 1000 // 1)


@lru_cache(maxsize=4096)
def _quantity(value: str) -> Fraction | None:
    stripped = value.strip()
    digits = stripped.rstrip("numkMGTPEi")
    suffix = stripped[len(digits) :]
    if suffix == "E" and digits == "":
        return None
    scale = _SUFFIXES.get(suffix)
    if scale is None or not digits or not digits.isascii() or "_" in digits or "/" in digits or len(digits) > 30:
        return None
    if _exponent(digits) > 18:
        return None
    try:
        exact = Fraction(digits) * scale
    except ValueError:
        return None
    return exact if 0 <= exact <= LARGEST else None


def owner_of(namespace: str, labels: Mapping[str, Any]) -> str | None:
    """Return the VLLMDeployment (`namespace/name`) that an object with these labels was made for."""
    if labels.get("app.kubernetes.io/managed-by") != MANAGED_BY:
        return None
    instance = text(labels.get("app.kubernetes.io/instance"))
    return f"{namespace}/{instance}" if instance else None


def _exponent(digits: str) -> int:
    """Size of the decimal exponent, so that `1e999999999` is never multiplied out."""
    _, _, exponent = digits.lower().partition("e")
    exponent = exponent.lstrip("+-").lstrip("0")
    return int(exponent) if exponent.isdigit() and len(exponent) < 4 else (999 if exponent else 0)


def _scalar(value: bool | int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
