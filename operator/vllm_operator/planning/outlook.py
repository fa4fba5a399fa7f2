"""What a changed request may hope for: most changes are seen to be too little without planning them.

What the bounds (planning.bounds) leave open is computed as the search does it, the most promising first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.planning.bounds import asked_context
from vllm_operator.planning.groups import FEWEST_NODES, MOST_NODES
from vllm_operator.planning.judging import fitting_of
from vllm_operator.planning.offer import offer_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm_operator.planning.capacity import ClassCapacity
    from vllm_operator.planning.offer import Offer
    from vllm_operator.planning.sizing import Fitting, Question
    from vllm_operator.planning.tuning import Parallelism


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What free GPUs hold at most."""

    sequences: int = 0
    """Sequences of the asked length, of the smallest one where the length is open."""
    context: int = 0
    """Tokens of each of the asked number of sequences, up to the asked length; 0 where the length is open."""


class Outlook:
    """One request, which gives the planner no leave to shrink it, against every class of a cluster."""

    def __init__(self, question: Question, classes: Iterable[ClassCapacity]) -> None:
        self._question = question
        self._promises = [found for capacity in classes if (found := _promise(question, capacity)) is not None]

    def starts_on_one_node(self) -> bool:
        """Whether the workload fits now, as asked, on the GPUs of single nodes."""
        return any(promise.starts() for promise in self._promises)

    def may_start_on_several(self) -> bool:
        """Whether several nodes together might hold it, which only a search can tell."""
        return any(promise.may_hold_over_nodes() for promise in self._promises)

    def most_work(self) -> Work:
        """What single nodes hold of it, where they do not hold all."""
        # Where something holds once GPUs are free, the search has stages only if they start now.
        with_stages = not any(promise.holds_later() for promise in self._promises)
        return _most(
            self._question, [way for promise in self._promises for way in promise.free_ways(with_stages=with_stages)]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Promise:
    """What one class of GPUs may do for the question."""

    question: Question
    offer: Offer
    fewest_gpus: int
    """Below it no shape holds the workload."""

    def starts(self) -> bool:
        """Whether some shape holds the workload on GPUs that are free."""
        if self._holds_nothing():
            return False
        shapes = (*self.offer.shapes.without_stages, *self.offer.shapes.staged)
        return any(self.is_free(shape.gpus) and self._holds(shape) for shape in shapes)

    def holds_later(self) -> bool:
        """Whether some shape without pipeline stages holds the workload on GPUs that are in use or declared."""
        if self._holds_nothing():
            return False
        return any(self._is_there(shape.gpus) and self._holds(shape) for shape in self.offer.shapes.without_stages)

    def may_hold_over_nodes(self) -> bool:
        """Whether the workload might fit on several nodes; certain is only the opposite."""
        if self.question.request.one_node_only is not None or not self.offer.capacity.gpu_class.joins_devices:
            return False
        room = self.offer.capacity.room(1, FEWEST_NODES)
        is_there = room.free or room.allocatable or room.declared
        return bool(is_there) and self.fewest_gpus <= MOST_NODES * self.offer.capacity.most_gpus_on_a_node

    def free_ways(self, *, with_stages: bool) -> Iterator[_Way]:
        """Yield the numbers of GPUs that are free, with the shapes that cut a replica over them."""
        shapes, context = self.offer.shapes, asked_context(self.question)
        for gpus, same_size in (shapes.uncopied_by_gpus if with_stages else shapes.cut_by_gpus).items():
            if self.is_free(gpus):
                bound = self.offer.alone.most_sequences(gpus, context) if self.offer.alone else float("inf")
                yield _Way(promise=self, gpus=gpus, shapes=same_size, sequences_bound=bound)

    def is_free(self, gpus: int) -> bool:
        """Whether all replicas find that many free GPUs each."""
        return self.offer.capacity.room(gpus).free >= self.question.request.replicas

    def fitting(self, shape: Parallelism) -> Fitting | None:
        """The size that the search would choose for this shape; None where vLLM would refuse it."""
        sizes = self.offer.sizes(shape)
        return fitting_of(self.question, sizes) if not sizes.problems else None

    def _holds_nothing(self) -> bool:
        too_few = self.fewest_gpus > self.offer.capacity.most_gpus_on_a_node
        return too_few or self.question.request.gpus.cannot_tell(self.offer.capacity.gpu_class)

    def _is_there(self, gpus: int) -> bool:
        room = self.offer.capacity.room(gpus)
        return room.allocatable >= 1 or room.declared >= 1

    def _holds(self, shape: Parallelism) -> bool:
        if shape.gpus < self.fewest_gpus:
            return False
        fitting = self.fitting(shape)
        return fitting is not None and fitting.need.fits


def _promise(question: Question, capacity: ClassCapacity) -> _Promise | None:
    """What the class may do; None where the memory of its GPUs is not known: nothing is promised there."""
    offer = offer_of(question, capacity)
    if offer.device is None:
        return None
    return _Promise(question=question, offer=offer, fewest_gpus=offer.fewest_gpus())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One number of free GPUs of one class, and the shapes that use them."""

    promise: _Promise
    gpus: int
    shapes: tuple[Parallelism, ...]
    sequences_bound: float
    """Sequences of the asked length that no shape exceeds."""

    def may_hold(self, context: int, sequences: int) -> bool:
        """Whether some shape might hold that many sequences of that length."""
        return self.promise.offer.alone is None or self.promise.offer.alone.fewest_gpus(context, sequences) <= self.gpus


def _most(question: Question, ways: list[_Way]) -> Work:
    """Compute the ways that promise most, until no other can hold more."""
    asked, concurrency = question.request.context_length, question.request.concurrency
    sequences = context = 0
    exhausted: set[int] = set()
    for way in sorted(ways, key=lambda way: -way.sequences_bound):
        if id(way.promise) in exhausted:
            continue
        holds_longer = asked is not None and context < asked and way.may_hold(context + 1, concurrency)
        if way.sequences_bound <= sequences and not holds_longer:
            # NB: what follows of this class has fewer GPUs.
            exhausted.add(id(way.promise))
            continue
        fittings = (way.promise.fitting(shape) for shape in way.shapes)
        for room in (fitting.size.memory_room for fitting in fittings if fitting is not None):
            sequences = max(sequences, room.max_concurrency(asked_context(question)))
            if asked is not None:
                context = max(context, room.max_context(concurrency, asked))
    return Work(sequences=sequences, context=context)
