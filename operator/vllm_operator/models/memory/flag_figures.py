"""Figures out of flags, whose values come from users and logs as any kind of JSON."""

from __future__ import annotations

LARGEST_FLAG = 1e15
"""Above that a figure is not meant."""


def flag_number(value: object) -> float:
    """A flag's figure; 0 for what is none, or too large to be meant."""
    if not isinstance(value, (int, float, str)) or isinstance(value, bool):
        return 0.0
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return 0.0
    return number if 0 < number < LARGEST_FLAG else 0.0
