"""The search: which GPU class, how many GPUs, which batch. The first objective is the user's workload.

Candidates are tried from the fewest GPUs up, and the search stops at the first number of GPUs on which something fits
right now. Among those: lower risk first, then the least memory, then the class order that does not depend on nodes.
Several nodes are tried last, from the fewest up, where nothing fits on one.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.planning.candidate import holds, meets_workload, preference
from vllm_operator.planning.groups import FEWEST_NODES, MOST_NODES, shapes_over
from vllm_operator.planning.judging import judge
from vllm_operator.planning.offer import offer_of
from vllm_operator.planning.plan import Verdict
from vllm_operator.planning.shapes import runs_whole_experts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm_operator.planning.candidate import Candidate
    from vllm_operator.planning.capacity import ClassCapacity
    from vllm_operator.planning.sizing import Question
    from vllm_operator.planning.tuning import Parallelism

MOST_BYTES_ON_DISK = 8
"""Bytes of the weight files per byte that is loaded, at most: 32 bits that are quantized to 4 while loading."""


def search(question: Question, classes: Iterable[ClassCapacity], *, with_hopeless: bool = True) -> list[Candidate]:
    """Judge candidates and return them best first; empty when no class is there at all.

    Without the hopeless ones, which show how close something came and never hold the workload, what fits is found in
    less time, and is the same.
    """
    classes = tuple(classes)
    judged: list[Candidate] = []
    for group in _by_number_of_gpus(question, classes, with_hopeless=with_hopeless):
        judged.extend(judge(question, capacity, parallelism) for capacity, parallelism in group)
        if any(meets_workload(question, candidate) for candidate in judged):
            break
        judged.extend(_with_copies(question, group))
        if any(meets_workload(question, candidate) for candidate in judged):
            break
    if not any(candidate.verdict is Verdict.FITS for candidate in judged):
        pipelines = _with_pipelines(question, classes)
        # Where something holds once GPUs are free, stages are worth it only if they start now.
        only_now = any(holds(candidate) for candidate in judged)
        judged.extend(one for one in pipelines if one.verdict is Verdict.FITS or not only_now)
    if not any(candidate.verdict is Verdict.FITS for candidate in judged) and question.request.one_node_only is None:
        only_now = any(holds(candidate) for candidate in judged)
        judged.extend(one for one in search_groups(question, classes) if one.verdict is Verdict.FITS or not only_now)
    return sorted(judged, key=lambda candidate: preference(question, candidate))


def search_groups(
    question: Question, classes: Iterable[ClassCapacity], *, whole_nodes: bool = False
) -> list[Candidate]:
    """Judge replicas that take several nodes each, up to the first number of nodes on which something fits now.

    Ways for which there is no room at all are left out: nothing is to be learned from them. `whole_nodes`: only those
    that take as much of a node as any.
    """
    judged: list[Candidate] = []
    joining = [
        (capacity, _fewest_nodes(question, capacity)) for capacity in classes if capacity.gpu_class.joins_devices
    ]
    for nodes in range(FEWEST_NODES, MOST_NODES + 1):
        for capacity in (capacity for capacity, fewest in joining if nodes >= fewest):
            judged.extend(_judge_shapes(question, capacity, nodes, whole_nodes=whole_nodes))
        if any(meets_workload(question, candidate) for candidate in judged):
            break
    return sorted(judged, key=lambda candidate: preference(question, candidate))


def _fewest_nodes(question: Question, capacity: ClassCapacity) -> int:
    """The number of nodes below which not even whole ones hold the workload; beyond the most where none does.

    Looked for by halves: more nodes leave less for each GPU to hold.
    """
    return (
        bisect_left(
            range(FEWEST_NODES, MOST_NODES + 1),
            True,
            key=lambda nodes: _whole_nodes_may_hold(question, capacity, nodes),
        )
        + FEWEST_NODES
    )


def _whole_nodes_may_hold(question: Question, capacity: ClassCapacity, nodes: int) -> bool:
    """Whether the workload fits the memory of that many whole nodes; True where no such shape can be judged."""
    shapes = shapes_over(nodes, question.request, capacity.most_gpus_on_a_node)
    most = max((shape.gpus_per_node for shape in shapes), default=0)
    for shape in (shape for shape in shapes if shape.gpus_per_node == most):
        whole_experts = runs_whole_experts(question, capacity, shape)
        candidate = judge(question, capacity, replace(shape, expert=whole_experts))
        if not candidate.problems:
            return candidate.need is None or candidate.need.fits
    return True


def _judge_shapes(question: Question, capacity: ClassCapacity, nodes: int, *, whole_nodes: bool) -> Iterator[Candidate]:
    """Yield, for each number of GPUs of one node, the first way that vLLM accepts, up to one that fits now."""
    shapes = shapes_over(nodes, question.request, capacity.most_gpus_on_a_node)
    least = max((shape.gpus_per_node for shape in shapes), default=0) if whole_nodes else 1
    accepted: set[int] = set()
    for shape in shapes:
        gpus, room = shape.gpus_per_node, capacity.room(shape.gpus_per_node, nodes)
        has_room = room.free or room.allocatable or room.declared
        if gpus in accepted or gpus < least or not has_room or _is_hopeless(question, capacity, shape):
            continue
        whole_experts = runs_whole_experts(question, capacity, shape)
        candidate = judge(question, capacity, replace(shape, expert=whole_experts))
        if candidate.problems:
            continue
        accepted.add(gpus)
        yield candidate
        if meets_workload(question, candidate):
            break


def _is_hopeless(question: Question, capacity: ClassCapacity, spread: Parallelism) -> bool:
    """Whether the weight files are far more than all GPUs together: a look that costs nothing, before one that does."""
    checkpoint, memory_bytes = question.facts.checkpoint, capacity.gpu_class.memory_bytes
    if checkpoint is None or checkpoint.total_bytes is None or memory_bytes is None:
        return False
    return checkpoint.total_bytes > MOST_BYTES_ON_DISK * memory_bytes * spread.gpus


def _with_copies(question: Question, group: list[tuple[ClassCapacity, Parallelism]]) -> Iterator[Candidate]:
    """Yield, for each class, the first copied attention that holds."""
    if not question.facts.num_experts:
        return
    for capacity, whole in group:
        judged = (judge(question, capacity, shape) for shape in offer_of(question, capacity).shapes.copied[whole])
        found = next((candidate for candidate in judged if holds(candidate)), None)
        if found is not None:
            yield found


def _with_pipelines(question: Question, classes: tuple[ClassCapacity, ...]) -> Iterator[Candidate]:
    """Judge pipeline stages inside a node, but where so few GPUs cannot hold the workload however it is spread."""
    for capacity in classes:
        offer = offer_of(question, capacity)
        stages = offer.shapes.staged
        fewest = offer.fewest_gpus() if stages else 1
        for shape in (shape for shape in stages if shape.gpus >= fewest):
            yield judge(question, capacity, shape)


def _by_number_of_gpus(
    question: Question, classes: tuple[ClassCapacity, ...], *, with_hopeless: bool
) -> Iterator[list[tuple[ClassCapacity, Parallelism]]]:
    """Yield all candidates of one number of GPUs after the other."""
    by_gpus: dict[int, list[tuple[ClassCapacity, Parallelism]]] = {}
    for capacity in classes:
        offer = offer_of(question, capacity)
        fewest = 1 if with_hopeless else offer.fewest_gpus()
        for parallelism in (shape for shape in offer.shapes.cut if shape.gpus >= fewest):
            by_gpus.setdefault(parallelism.gpus, []).append((capacity, parallelism))
    for gpus in sorted(by_gpus):
        yield by_gpus[gpus]
