"""The GPUs that a row names: one kind for all ranks, or a list from the first rank to the last."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.models.facts import Device
from vllm_operator.models.versions import GIB
from vllm_operator.models.visible_memory import visible_memory

if TYPE_CHECKING:
    from vllm_operator.models.run_row import RunRow

_BETWEEN = " + "
_COUNTED = re.compile(r"(\d{1,3})\s?x\s+(.+)", re.IGNORECASE | re.ASCII)
_MOST_RANKS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The cards of one replica."""

    smallest: Device
    """The one that decides where ranks of a stage differ, and for which settings are resolved."""
    of_stages: tuple[Device, ...] = ()
    """The smallest card of each pipeline stage; empty where all are alike or the row does not say which is where."""


def devices_of(row: RunRow, *, tensor: int, pipeline: int) -> Devices | None:
    """The GPUs as CUDA shows them: by their stated memory, else by product; None when neither says anything.

    `RTX 5070 Ti + RTX 5090` over two pipeline stages is one card a stage, in that order; `2x A + 2x B` counts ranks.
    """
    if row.gpu_memory_gib is not None:
        return Devices(smallest=Device(product=row.gpu, memory_bytes=int(row.gpu_memory_gib * GIB)))
    return _named(row.gpu, tensor, pipeline)


@functools.lru_cache(maxsize=512)
def _named(product: str | None, tensor: int, pipeline: int) -> Devices | None:
    visible = visible_memory(product)
    if visible is None:
        return None
    smallest = Device(product=product, memory_bytes=visible.bytes)
    by_stage = _by_stage(product or "", tensor, pipeline) if _BETWEEN in (product or "") and pipeline > 1 else ()
    return Devices(smallest=smallest, of_stages=by_stage)


def _by_stage(product: str, tensor: int, pipeline: int) -> tuple[Device, ...]:
    ranks: list[Device] = []
    for part in product.split(_BETWEEN):
        counted = _COUNTED.fullmatch(part.strip())
        name = counted[2] if counted else part.strip()
        visible = visible_memory(name)
        if visible is None or len(ranks) > _MOST_RANKS:
            return ()
        ranks += [Device(product=name, memory_bytes=visible.bytes)] * (int(counted[1]) if counted else 1)
    if len(ranks) == pipeline:
        return tuple(ranks)
    if len(ranks) != tensor * pipeline:
        return ()
    stages = (ranks[start : start + tensor] for start in range(0, len(ranks), tensor))
    return tuple(min(stage, key=lambda card: card.memory_bytes) for stage in stages)
