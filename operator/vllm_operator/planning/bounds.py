"""What no shape of a replica can do, told from what it would take of one GPU alone.

All GPUs of a replica together hold at least what one GPU would have to hold alone: parallelism divides weights and KV
cache, or copies them, and never makes them less. So one GPU says of any number of GPUs what cannot be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.planning.candidate import SMALLEST_CONTEXT

if TYPE_CHECKING:
    from vllm_operator.models.kv import KvLayout
    from vllm_operator.planning.sizing import Question, Sizes

_SLACK = 1.05
"""By how much more a bound allows: blocks are whole and rows padded, in shapes of their own for each number of GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """A replica on one GPU of a class, with the batch that takes least, and no overhead; in bytes."""

    layout: KvLayout
    fragmentation_factor: float
    weights_bytes: int
    usable_bytes: int
    """What weights and KV cache may take of each GPU."""

    def fewest_gpus(self, context: int, sequences: int) -> int:
        """The number of GPUs below which no shape holds that many sequences of that length."""
        if self.usable_bytes <= 0:
            return _NONE_SUFFICES
        return math.ceil((self.weights_bytes + self._kv_bytes(context) * sequences) / (self.usable_bytes * _SLACK))

    def most_sequences(self, gpus: int, context: int) -> float:
        """The number of sequences of that length that no shape on that many GPUs exceeds."""
        each_bytes = self._kv_bytes(context)
        spare_bytes = gpus * self.usable_bytes * _SLACK - self.weights_bytes
        return spare_bytes / each_bytes if each_bytes else math.inf

    def _kv_bytes(self, context: int) -> float:
        return self.layout.bytes_one_sequence(context) * self.fragmentation_factor


_NONE_SUFFICES = 1 << 30


def alone(sizes: Sizes, context: int) -> Alone | None:
    """The replica on one GPU that holds sequences of that length, from its sizes there; None where it has none."""
    if sizes.problems:
        return None
    room = min(
        (size.memory_room for size in sizes.attempts()), key=lambda room: room.layout.bytes_one_sequence(context)
    )
    return Alone(
        layout=room.layout,
        fragmentation_factor=room.fragmentation_factor,
        weights_bytes=room.weights_bytes,
        usable_bytes=room.budget_bytes - room.wanted_headroom_bytes,
    )


def asked_context(question: Question) -> int:
    """The context that must hold: as asked, or the smallest that the planner would choose."""
    return question.request.context_length or min(SMALLEST_CONTEXT, question.facts.max_model_len)
