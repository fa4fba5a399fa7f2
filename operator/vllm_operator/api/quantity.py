"""Kubernetes quantities: text to integers."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_SUFFIX_FACTOR: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_QUANTITY: Final = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)([a-zA-Z]{0,2})")


class QuantityError(ValueError):
    """The text is not a Kubernetes quantity."""


def parse_quantity(text: str) -> Decimal:
    """Return the exact value of a quantity such as `40Gi`, `1500m` or `2`.

    Raises:
        QuantityError: it is not a quantity, or negative.
    """
    match = _QUANTITY.fullmatch(text.strip())
    factor = _SUFFIX_FACTOR.get(match.group(2)) if match else None
    if match is None or factor is None:
        raise QuantityError(f"{text[:64]!r} is not a quantity; write a number with a unit, such as 40Gi")
    return Decimal(match.group(1)) * factor


def parse_bytes(text: str) -> int:
    """Return a memory quantity in whole bytes, rounded down.

    Raises:
        QuantityError: it is not a quantity, or negative.
    """
    return int(parse_quantity(text))
