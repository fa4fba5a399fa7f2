"""Objects that nobody in his right mind would send, made from good ones by chance that can be repeated."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

DEEP = "@deep@"
"""Stands for an object that is nested more deeply than Python writes JSON; `as_json` puts it in."""
DEEP_LEVELS = 2_000
WORDS = (
    "",
    " ",
    "\t\n",
    "\x00",
    "NaN",
    "Infinity",
    "-5",
    "1e400",
    "1e3Gi",
    "-40Gi",
    "0x10",
    "1_000",
    "1,5",
    "१२Gi",
    "40Gi",
    "9" * 400,
    "9" * 5000,
    "a" * 70_000,
    "💥" * 50,
    "\u202egnp.exe",
    "\ud800",
    "../../etc/passwd",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "$(HOME) ${HOME} `id`",
    "'; DROP TABLE nodes; --",
    "x\n---\nkind: Secret",
    "true",
    "null",
    DEEP,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    10**30,
    0.1,
    -0.0,
    1e308,
    [],
    {},
    [[]],
    [None],
    [{}],
    {"": ""},
    {"a": None},
    {"name": 7},
    [{"name": "engine"}, {"name": "engine"}],
    list(range(1000)),
    {f"key-{number}": number for number in range(500)},
)


def hostile(obj: dict[str, Any], dice: random.Random, *, within: str = "") -> dict[str, Any]:
    """Return a copy in which one to four things, below the key `within` if one is given, are not as they should be."""
    found = copy.deepcopy(obj)
    for _ in range(dice.randint(1, 4)):
        places = list(_places(found.get(within) if within else found))
        if not places:
            return found
        container, key = dice.choice(places)
        match dice.randrange(5):
            case 0 | 1:
                container[key] = copy.deepcopy(dice.choice(VALUES))
            case 2:
                container[key] = dice.choice(WORDS)
            case 3 if isinstance(container, dict):
                container[dice.choice(WORDS)[:60] or "x"] = container.pop(key)
            case _:
                container[key] = [container[key]] if dice.random() < 0.5 else {"a": container[key]}
    return found


def hostile_strings(strings: dict[str, str], dice: random.Random, *, longest: int) -> dict[str, str]:
    """Return a copy of labels, annotations or quantities in which some values lie; none is longer than `longest`."""
    return {key: dice.choice(WORDS)[:longest] if dice.random() < 0.3 else value for key, value in strings.items()}


def as_json(obj: object) -> bytes:
    """Return the JSON of an object."""
    deep = '{"a":' * DEEP_LEVELS + "1" + "}" * DEEP_LEVELS
    return json.dumps(obj).replace(f'"{DEEP}":', '"deep":').replace(f'"{DEEP}"', deep).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
