"""How one candidate is judged: what it needs of a GPU, what workload is planned for, and the verdict on both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.cluster.devices import DEVICES
from vllm_operator.models.facts import Device
from vllm_operator.planning.candidate import SMALLEST_CONTEXT, Candidate, holds, useful_context
from vllm_operator.planning.offer import offer_of
from vllm_operator.planning.plan import Verdict
from vllm_operator.planning.sizing import Fitting, sizes_on

if TYPE_CHECKING:
    from vllm_operator.planning.capacity import ClassCapacity, Room
    from vllm_operator.planning.need import MemoryRoom
    from vllm_operator.planning.request import Request
    from vllm_operator.planning.sizing import Question, Sizes
    from vllm_operator.planning.tuning import Parallelism

CONTEXT_STEP = 256
"""A context that the planner chooses is rounded down to a multiple of it."""

LARGEST_KNOWN_MEMORY_BYTES = max(facts.memory_bytes for facts in DEVICES)
"""Where a GPU's memory is unknown, what does not fit this does not fit it either."""


def judge(question: Question, capacity: ClassCapacity, parallelism: Parallelism) -> Candidate:
    """Judge one candidate; where its product is not known to be allowed it is Unknown at best."""
    candidate = _judge_by_memory(question, capacity, parallelism)
    if not question.request.gpus.cannot_tell(capacity.gpu_class):
        return candidate
    verdict = Verdict.UNKNOWN if holds(candidate) else candidate.verdict
    return replace(candidate, verdict=verdict, placeable=False)


def _judge_by_memory(question: Question, capacity: ClassCapacity, parallelism: Parallelism) -> Candidate:
    room = capacity.room(parallelism.gpus_per_node, parallelism.nodes)
    offer = offer_of(question, capacity)
    if offer.device is None:
        return _unsized(question, capacity, parallelism, room, _verdict_without_memory(question, room, parallelism))
    sizes = offer.sizes(parallelism)
    if sizes.problems:
        verdict = Verdict.DOES_NOT_FIT if sizes.refused else Verdict.UNKNOWN
        unsized = _unsized(question, capacity, parallelism, room, verdict)
        return replace(unsized, device=offer.device, problems=sizes.problems)
    fitting = fitting_of(question, sizes)
    return Candidate(
        capacity=capacity,
        parallelism=parallelism,
        room=room,
        verdict=_verdict(question.request, room) if fitting.need.fits else Verdict.DOES_NOT_FIT,
        device=offer.device,
        size=fitting.size,
        need=fitting.need,
        context_length=fitting.context_length,
        concurrency=fitting.concurrency,
    )


def fitting_of(question: Question, sizes: Sizes) -> Fitting:
    """The size that serves the workload best, remembered; `sizes` must have no problems."""
    return sizes.fitting(question.request, lambda: _best_size(question, sizes))


def _best_size(question: Question, sizes: Sizes) -> Fitting:
    """The first batch size that holds the workload, else the one that comes closest; it reads nothing of the cluster.

    NB: remembered with the sizes, so of the request it may read only the context and what the sizes depend on.
    """
    best: Fitting | None = None
    for size in sizes.attempts():
        context, concurrency = _workload(question, size.memory_room)
        need = size.memory_room.need(context, concurrency)
        attempt = Fitting(size=size, need=need, context_length=context, concurrency=concurrency)
        if best is None or _is_better(attempt, best):
            best = attempt
        if need.fits and context >= useful_context(question):
            break
    assert best is not None
    return best


def _is_better(attempt: Fitting, best: Fitting) -> bool:
    """Whether a smaller batch is worth it: it makes the workload fit, or an open context longer."""
    if attempt.need.fits and best.need.fits:
        return attempt.context_length > best.context_length
    return attempt.need.headroom_bytes > best.need.headroom_bytes


def _verdict_without_memory(question: Question, room: Room, parallelism: Parallelism) -> Verdict:
    """Unknown, unless even the largest GPU that anybody makes would be too small."""
    if not (room.free or room.allocatable or room.declared):
        return Verdict.DOES_NOT_FIT
    largest = Device(product=None, memory_bytes=LARGEST_KNOWN_MEMORY_BYTES)
    sizes = sizes_on(question, largest).of(question, parallelism)
    if sizes.refused:
        return Verdict.DOES_NOT_FIT
    if sizes.problems:
        return Verdict.UNKNOWN
    needs = (size.memory_room.need(*_workload(question, size.memory_room)) for size in sizes.attempts())
    return Verdict.UNKNOWN if any(need.fits for need in needs) else Verdict.DOES_NOT_FIT


def _unsized(
    question: Question, capacity: ClassCapacity, parallelism: Parallelism, room: Room, verdict: Verdict
) -> Candidate:
    return Candidate(
        capacity=capacity,
        parallelism=parallelism,
        room=room,
        verdict=verdict,
        concurrency=question.request.concurrency,
    )


def _workload(question: Question, room: MemoryRoom) -> tuple[int, int]:
    """Context and concurrency to plan for: as asked; the largest that fits where open; less only if the user allows."""
    request, own_limit = question.request, question.facts.max_model_len
    smallest = min(SMALLEST_CONTEXT, own_limit)
    if request.context_length is None:
        longest = _rounded(room.max_context(request.concurrency, own_limit), own_limit)
        if longest >= smallest or not request.policy.may_shrink:
            return max(smallest, longest), request.concurrency
        return smallest, max(1, room.max_concurrency(smallest))
    context = request.context_length
    if not request.policy.may_shrink or room.need(context, request.concurrency).fits:
        return context, request.concurrency
    concurrency = room.max_concurrency(context)
    if concurrency >= 1:
        return context, min(concurrency, request.concurrency)
    shorter = _rounded(room.max_context(1, context), context)
    return (shorter, 1) if shorter >= smallest else (context, request.concurrency)


def _rounded(context: int, limit: int) -> int:
    return limit if context >= limit else context - context % CONTEXT_STEP


def _verdict(request: Request, room: Room) -> Verdict:
    """From room to verdict: all replicas must find a place within single nodes, now; some of them, once freed."""
    if room.free >= request.replicas:
        return Verdict.FITS
    if room.allocatable >= 1:
        return Verdict.FITS_IF_FREED
    if room.declared >= 1:
        return Verdict.FITS_WHEN_SCALED
    return Verdict.DOES_NOT_FIT
