"""Which flags a release of vLLM has, and whether a command line would get through its parser.

The tables are read from the real parser of each release (`scripts/embed_vllm_flags.py`) and shipped with the package.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KNOWN_VERSIONS = ("0.32.0", "0.33.0")
"""Releases with an embedded table, oldest first."""

_SIZE_SUFFIXES = "kKmMgGtT"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagTable:
    """The flags of one release."""

    version: str
    exact: bool
    """False when the asked release has no table and the nearest one stands in."""
    flags: Mapping[str, Mapping[str, Any]]
    tool_parsers: frozenset[str]
    """Names that `--tool-call-parser` finds without a plugin."""
    reasoning_parsers: frozenset[str]
    """Names that `--reasoning-parser` finds without a plugin."""

    def has(self, flag: str) -> bool:
        """Whether this release has the flag: a long name without dashes, or `flag.field` of one that takes JSON."""
        return self._entry(flag) is not None

    def _entry(self, flag: str) -> Mapping[str, Any] | None:
        """What the parser knows of a flag; every switch has a `no-` form, whether or not the help lists it."""
        name = canonical(flag)
        if name in self.flags:
            return self.flags[name]
        positive = self.flags.get(name.removeprefix("no-")) if name.startswith("no-") else None
        return positive if positive is not None and positive["values"] == "0" else None

    def takes_value(self, flag: str) -> bool:
        """Whether the flag must be followed by a value."""
        entry = self._entry(flag)
        return entry is not None and entry["values"] in ("1", "+")

    def problems(self, arguments: Sequence[str], *, strays: bool = True) -> tuple[str, ...]:
        """Why vLLM's parser would refuse these tokens (the model first, then flags); empty when it would not.

        Short flags (`-O3`, `-cc.mode=3`) are not in the table: with `strays=False` nothing is said of tokens that are
        neither a long flag nor the value of one.
        """
        problems: list[str] = []
        position = 1 if arguments and not arguments[0].startswith("-") else 0
        while position < len(arguments):
            token = arguments[position]
            position += 1
            if not token.startswith("--"):
                if strays:
                    problems.append(f"{token!r} is neither a flag nor the value of one")
                continue
            name, inline, inline_value = token[2:].partition("=")
            entry = self._entry(name)
            values = [inline_value] if inline else []
            while not inline and position < len(arguments) and not arguments[position].startswith("--"):
                values.append(arguments[position])
                position += 1
            if entry is None:
                problems.append(f"vLLM {self.version} has no flag --{name}")
            else:
                problems.extend(_value_problems(name, entry, values))
        return tuple(problems)


def canonical(flag: str) -> str:
    """The parser's own name of a flag: vLLM reads underscores as dashes, `flag.field` as a field of its value."""
    return flag.partition(".")[0].replace("_", "-")


def _value_problems(name: str, entry: Mapping[str, Any], values: Sequence[str]) -> list[str]:
    wanted = entry["values"]
    if wanted == "0" and values:
        return [f"--{name} takes no value, got {values[0]!r}"]
    if wanted == "1" and len(values) != 1:
        return [f"--{name} takes one value, got {len(values)}"]
    if wanted == "+" and not values:
        return [f"--{name} needs at least one value"]
    if "." in name:
        return []
    return [f"--{name} does not accept {value!r}" for value in values if not _is_acceptable(entry, value)]


def _is_acceptable(entry: Mapping[str, Any], value: str) -> bool:
    choices = entry.get("choices")
    if choices is not None:
        return value in choices
    match entry.get("kind"):
        case "int":
            return value.lstrip("-").isdigit()
        case "float":
            return _is_number(value)
        case "size" | "size-or-auto" as kind:
            return (kind == "size-or-auto" and value in ("auto", "-1")) or _is_number(value.rstrip(_SIZE_SUFFIXES))
        case "json":
            return _is_json(value)
        case _:
            return True


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=len(KNOWN_VERSIONS))
def _load(version: str) -> Mapping[str, Any]:
    text = resources.files("vllm_operator.planning").joinpath("data", f"vllm-flags-{version}.json").read_text("utf-8")
    table: Mapping[str, Any] = json.loads(text)
    return table


def release_of(version: str) -> tuple[int, ...]:
    """The numbers of a version string, so that versions compare: "v0.33.1.dev7" is (0, 33, 1)."""
    numbers = []
    for part in version.removeprefix("v").split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def spans_nodes(version: str) -> bool:
    """Whether a release runs one engine on several nodes without Ray. Nothing is known of those before the tables."""
    return release_of(version) >= release_of(KNOWN_VERSIONS[0]) and flags_of(version).has("nnodes")


@lru_cache(maxsize=64)
def flags_of(version: str) -> FlagTable:
    """The flags of a release; for one without a table those of the newest known release that is not newer."""
    release = release_of(version)
    older = [known for known in KNOWN_VERSIONS if release_of(known) <= release]
    nearest = older[-1] if older else KNOWN_VERSIONS[0]
    table = _load(nearest)
    return FlagTable(
        version=version,
        exact=release_of(nearest) == release,
        flags=table["flags"],
        tool_parsers=frozenset(table["tool_parsers"]),
        reasoning_parsers=frozenset(table["reasoning_parsers"]),
    )
