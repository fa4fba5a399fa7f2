"""Reading of single fields of a raw config: typed, with the name variants of the wild, never raising."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

Config = Mapping[str, Any]

_LARGEST = 10**9
_LONGEST_LIST = 65536


def integer(config: Config, *names: str, default: int = 0) -> int:
    """The first of the named fields that holds a sane non-negative integer."""
    for name in names:
        value = config.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
            return value
    return default


def number(config: Config, name: str, *, default: float) -> float:
    """A field that holds a number."""
    value = config.get(name)
    if isinstance(value, float):
        return value if isfinite(value) else default
    return (
        float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST else default
    )


def flag(config: Config, *names: str, default: bool = False) -> bool:
    """The first of the named fields that holds a boolean."""
    for name in names:
        value = config.get(name)
        if isinstance(value, bool):
            return value
    return default


def text(config: Config, *names: str) -> str:
    """The first of the named fields that holds a non-empty string, else ''."""
    for name in names:
        value = config.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def section(config: Config, *names: str) -> Config:
    """The first of the named fields that holds an object, else an empty one."""
    for name in names:
        value = config.get(name)
        if isinstance(value, Mapping):
            return value
    return {}


def items(config: Config, *names: str) -> tuple[Any, ...]:
    """The first of the named fields that holds a list, cut where no model's could be longer, else an empty tuple."""
    for name in names:
        value = config.get(name)
        if isinstance(value, (list, tuple)):
            return tuple(value[:_LONGEST_LIST])
    return ()


def integers(config: Config, *names: str) -> frozenset[int]:
    """The integers of the first of the named fields that holds a list: layer indices."""
    return frozenset(value for value in items(config, *names) if isinstance(value, int))
