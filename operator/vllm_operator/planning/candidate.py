"""One way to run a replica, judged, and the order in which ways are preferred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.cluster.records import Sharing
from vllm_operator.planning.capacity import class_order
from vllm_operator.planning.plan import OomRisk, Verdict

if TYPE_CHECKING:
    from vllm_operator.models.facts import Device
    from vllm_operator.planning.capacity import ClassCapacity, Room
    from vllm_operator.planning.need import Need
    from vllm_operator.planning.sizing import Question, Size
    from vllm_operator.planning.tuning import Parallelism

SMALLEST_CONTEXT = 2048
"""The planner never chooses less than it (or than the model's own limit): prompts with their answers would be cut."""
USEFUL_CONTEXT = 8192
"""Where the user leaves the context open, more GPUs are taken rather than fall below it (or the model's own limit)."""

_VERDICT_ORDER = {
    Verdict.FITS: 0,
    Verdict.FITS_IF_FREED: 1,
    Verdict.FITS_WHEN_SCALED: 2,
    Verdict.UNKNOWN: 3,
    Verdict.DOES_NOT_FIT: 4,
}
_UNKNOWN_SHORTAGE = float("inf")
_RISK_ORDER = {OomRisk.LOW: 0, OomRisk.MEDIUM: 1, OomRisk.HIGH: 2, None: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One GPU class with one way to spread a replica over it, judged."""

    capacity: ClassCapacity
    parallelism: Parallelism
    room: Room
    verdict: Verdict
    device: Device | None = None
    size: Size | None = None
    need: Need | None = None
    context_length: int = 0
    concurrency: int = 1
    problems: tuple[str, ...] = ()
    """Why vLLM would refuse to start, whatever the memory."""
    placeable: bool = True
    """False on GPUs of unknown product where the request allows certain products only: nothing is put there."""

    @property
    def risk(self) -> OomRisk | None:
        """How close to the limit it runs; None when no memory could be computed.

        On a time-sliced GPU nothing keeps the other pods from taking the memory that was planned with.
        """
        if self.need is not None and self.capacity.gpu_class.sharing is Sharing.TIME_SLICED:
            return OomRisk.HIGH
        return self.need.risk if self.need is not None else None

    @property
    def shortage_bytes(self) -> int | None:
        """By how much one GPU is too small, per GPU; None when nothing could be computed."""
        if self.need is None:
            return None
        return max(0, self.need.wanted_headroom_bytes - self.need.headroom_bytes)


def useful_context(question: Question) -> int:
    """The least context that a candidate must reach to count as meeting the workload."""
    return question.request.context_length or min(question.facts.max_model_len, USEFUL_CONTEXT)


def holds(candidate: Candidate) -> bool:
    """Whether a replica would run there: now, once GPUs are freed, or on capacity that may be added."""
    return candidate.verdict in (Verdict.FITS, Verdict.FITS_IF_FREED, Verdict.FITS_WHEN_SCALED)


def meets_workload(question: Question, candidate: Candidate) -> bool:
    """Whether it fits now, with a context of some use."""
    return candidate.verdict is Verdict.FITS and candidate.context_length >= useful_context(question)


def preference(question: Question, candidate: Candidate) -> tuple[object, ...]:
    """The order of candidates: what sorts first is preferred."""
    vram_bytes = (candidate.device.memory_bytes if candidate.device else 0) * candidate.parallelism.gpus
    shortage = candidate.shortage_bytes
    return (
        _VERDICT_ORDER[candidate.verdict],
        holds(candidate) and candidate.context_length < useful_context(question),
        bool(candidate.problems),
        not holds(candidate) and candidate.parallelism.pipeline > 1,
        shortage if shortage is not None else _UNKNOWN_SHORTAGE,
        candidate.parallelism.nodes,
        candidate.parallelism.pipeline if candidate.parallelism.nodes > 1 else 0,
        candidate.parallelism.gpus,
        candidate.parallelism.data,
        _RISK_ORDER[candidate.risk] if holds(candidate) else 0,
        vram_bytes,
        class_order(candidate.capacity.gpu_class),
    )
