"""Devices that HAMi registers on a node.

HAMi's device plugin offers each card several times and writes what it knows of them into the node's annotation
`hami.io/node-nvidia-register`: `UUID,splits,MiB,cores,type,numa,healthy:` for each card, or the same as JSON, where a
field that is zero or false is left out (Project-HAMi/HAMi `docs/develop/protocol.md`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster import reading
from vllm_operator.cluster.devices import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

REGISTER: Final = "hami.io/node-nvidia-register"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredGpu:
    """One healthy card as HAMi sees it; the memory may be oversold (`deviceMemoryScaling`)."""

    product: str
    memory_bytes: int
    splits: int


def registered_gpus(annotations: Mapping[str, Any]) -> tuple[RegisteredGpu, ...]:
    """Return the healthy cards of a node's register; none when it has no register that can be read."""
    register = reading.text(annotations.get(REGISTER))
    if register is None:
        return ()
    rows = _json_rows(register) if register.lstrip().startswith("[") else _text_rows(register)
    cards = (_card(*row) for row in rows)
    return tuple(card for card in cards if card is not None)


def _text_rows(register: str) -> list[tuple[object, object, object, object]]:
    rows: list[tuple[object, object, object, object]] = []
    for line in register.split(":"):
        fields = line.split(",")
        if len(fields) >= 5:
            healthy = fields[6].strip().lower() != "false" if len(fields) > 6 else True
            rows.append((fields[4], fields[1], fields[2], healthy))
    return rows


def _json_rows(register: str) -> list[tuple[object, object, object, object]]:
    try:
        parsed: Any = json.loads(register)
    except (ValueError, RecursionError):
        return []
    return [
        (row.get("type"), row.get("count"), row.get("devmem"), row.get("health") is True)
        for row in reading.items_at({"cards": parsed}, "cards")
    ]


def _card(product: object, splits: object, memory_mib: object, healthy: object) -> RegisteredGpu | None:
    name, count, mib = reading.text(product), reading.whole_number(splits), reading.whole_number(memory_mib)
    if healthy is False or name is None or not count or not mib:
        return None
    return RegisteredGpu(product=name, memory_bytes=mib * MIB, splits=count)
