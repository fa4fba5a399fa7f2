"""The search: which GPU class, how many GPUs, which batch. The first objective is the user's workload.

Candidates are tried from the fewest GPUs up, and the search stops at the first number of GPUs on which something fits
right now. Among those: lower risk first, then the least memory, then the class order that does not depend on nodes.
Several nodes are tried last, from the fewest up, where nothing fits on one.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vllm_operator.cluster.devices import DEVICES
from vllm_operator.cluster.records import Sharing
from vllm_operator.models.facts import Device
from vllm_operator.planning.capacity import class_order
from vllm_operator.planning.devices import device_for
from vllm_operator.planning.groups import FEWEST_NODES, MOST_NODES, TENSOR_SIZES, shapes_over
from vllm_operator.planning.plan import OomRisk, Verdict
from vllm_operator.planning.sizing import Fitting, sizes_for
from vllm_operator.planning.tuning import Parallelism

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm_operator.planning.capacity import ClassCapacity, Room
    from vllm_operator.planning.need import MemoryRoom, Need
    from vllm_operator.planning.request import Request
    from vllm_operator.planning.sizing import Question, Size, Sizes

USEFUL_CONTEXT = 8192
"""Where the user leaves the context open, more GPUs are taken rather than fall below it (or the model's own limit)."""
CONTEXT_STEP = 256
"""A context that the planner chooses is rounded down to a multiple of it."""
SMALLEST_CONTEXT = 2048
"""The planner never chooses less than it (or than the model's own limit): prompts with their answers would be cut."""

LARGEST_KNOWN_MEMORY_BYTES = max(facts.memory_bytes for facts in DEVICES)
"""Where a GPU's memory is unknown, what does not fit this does not fit it either."""
MOST_BYTES_ON_DISK = 8
"""Bytes of the weight files per byte that is loaded, at most: 32 bits that are quantized to 4 while loading."""
ASSUMED_CLIENTS = 2
"""Pods on a time-sliced GPU where nothing says how many: at least one more than ours."""

_PIPELINE_SIZES = (2, 3, 4, 6, 8)

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


def search(question: Question, classes: Iterable[ClassCapacity]) -> list[Candidate]:
    """Judge candidates and return them best first; empty when no class is there at all."""
    classes = tuple(classes)
    judged: list[Candidate] = []
    for group in _by_number_of_gpus(question, classes):
        judged.extend(_judge(question, capacity, parallelism) for capacity, parallelism in group)
        if any(_meets_workload(question, candidate) for candidate in judged):
            break
        judged.extend(_with_copies(question, group))
        if any(_meets_workload(question, candidate) for candidate in judged):
            break
    if not any(candidate.verdict is Verdict.FITS for candidate in judged):
        pipelines = _with_pipelines(question, classes)
        # Where something holds once GPUs are free, stages are worth it only if they start now.
        only_now = any(_holds(candidate) for candidate in judged)
        judged.extend(one for one in pipelines if one.verdict is Verdict.FITS or not only_now)
    if not any(candidate.verdict is Verdict.FITS for candidate in judged) and question.request.one_node_only is None:
        only_now = any(_holds(candidate) for candidate in judged)
        judged.extend(one for one in search_groups(question, classes) if one.verdict is Verdict.FITS or not only_now)
    return sorted(judged, key=lambda candidate: _preference(question, candidate))


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
        if any(_meets_workload(question, candidate) for candidate in judged):
            break
    return sorted(judged, key=lambda candidate: _preference(question, candidate))


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
        whole_experts = _runs_whole_experts(question, shape.tensor, shape.data)
        candidate = _judge(question, capacity, replace(shape, expert=whole_experts))
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
        whole_experts = _runs_whole_experts(question, shape.tensor, shape.data)
        candidate = _judge(question, capacity, replace(shape, expert=whole_experts))
        if candidate.problems:
            continue
        accepted.add(gpus)
        yield candidate
        if _meets_workload(question, candidate):
            break


def _is_hopeless(question: Question, capacity: ClassCapacity, spread: Parallelism) -> bool:
    """Whether the weight files are far more than all GPUs together: a look that costs nothing, before one that does."""
    checkpoint, memory_bytes = question.facts.checkpoint, capacity.gpu_class.memory_bytes
    if checkpoint is None or checkpoint.total_bytes is None or memory_bytes is None:
        return False
    return checkpoint.total_bytes > MOST_BYTES_ON_DISK * memory_bytes * spread.gpus


def _with_copies(question: Question, group: list[tuple[ClassCapacity, Parallelism]]) -> Iterator[Candidate]:
    """Yield what fits when the attention of a model with experts is copied to GPUs instead of cut.

    Tensor parallelism cannot cut a KV cache into more parts than it has heads (an MLA cache: none at all), so every GPU
    holds all sequences; with data parallelism each holds its own, while the experts stay spread over all of them.
    """
    request = question.request
    if (
        not question.facts.num_experts
        or request.data_parallel_size is not None
        or request.tensor_parallel_size is not None
    ):
        return
    for capacity, parallelism in group:
        if parallelism.pipeline > 1 or parallelism.gpus > capacity.most_gpus_on_a_node:
            continue
        for data in (size for size in TENSOR_SIZES if 1 < size <= parallelism.tensor):
            tensor = parallelism.tensor // data
            candidate = _judge(question, capacity, _spread(question, tensor=tensor, pipeline=1, data=data))
            if _holds(candidate):
                yield candidate
                break


def _useful_context(question: Question) -> int:
    """The least context that a candidate must reach to count as meeting the workload."""
    return question.request.context_length or min(question.facts.max_model_len, USEFUL_CONTEXT)


def _holds(candidate: Candidate) -> bool:
    return candidate.verdict in (Verdict.FITS, Verdict.FITS_IF_FREED, Verdict.FITS_WHEN_SCALED)


def _meets_workload(question: Question, candidate: Candidate) -> bool:
    return candidate.verdict is Verdict.FITS and candidate.context_length >= _useful_context(question)


def _preference(question: Question, candidate: Candidate) -> tuple[object, ...]:
    vram_bytes = (candidate.device.memory_bytes if candidate.device else 0) * candidate.parallelism.gpus
    shortage = candidate.shortage_bytes
    return (
        _VERDICT_ORDER[candidate.verdict],
        _holds(candidate) and candidate.context_length < _useful_context(question),
        bool(candidate.problems),
        not _holds(candidate) and candidate.parallelism.pipeline > 1,
        shortage if shortage is not None else _UNKNOWN_SHORTAGE,
        candidate.parallelism.nodes,
        candidate.parallelism.pipeline if candidate.parallelism.nodes > 1 else 0,
        candidate.parallelism.gpus,
        candidate.parallelism.data,
        _RISK_ORDER[candidate.risk] if _holds(candidate) else 0,
        vram_bytes,
        class_order(candidate.capacity.gpu_class),
    )


def _by_number_of_gpus(
    question: Question, classes: tuple[ClassCapacity, ...]
) -> Iterator[list[tuple[ClassCapacity, Parallelism]]]:
    """Yield all candidates of one number of GPUs after the other."""
    by_gpus: dict[int, list[tuple[ClassCapacity, Parallelism]]] = {}
    for capacity in classes:
        for parallelism in _parallelisms(question, capacity):
            by_gpus.setdefault(parallelism.gpus, []).append((capacity, parallelism))
    for gpus in sorted(by_gpus):
        yield by_gpus[gpus]


def _parallelisms(question: Question, capacity: ClassCapacity) -> Iterator[Parallelism]:
    """Yield the ways to spread a replica over this class: what the user fixed, else every size that a node has."""
    request = question.request
    data, pipeline = request.data_parallel_size or 1, request.pipeline_parallel_size or 1
    tensors = TENSOR_SIZES if request.tensor_parallel_size is None else (request.tensor_parallel_size,)
    largest = capacity.most_gpus_on_a_node if capacity.gpu_class.joins_devices else 1
    for tensor in tensors:
        parallelism = _spread(question, tensor=tensor, pipeline=pipeline, data=data)
        if parallelism.gpus <= largest or tensor == tensors[0]:
            yield parallelism


def _spread(question: Question, *, tensor: int, pipeline: int, data: int) -> Parallelism:
    expert = _runs_whole_experts(question, tensor, data)
    return Parallelism(tensor=tensor, pipeline=pipeline, data=data, expert=expert)


def _runs_whole_experts(question: Question, tensor: int, data: int) -> bool:
    """Whether each GPU holds some experts whole: as the user says, else as the model's family is run."""
    if question.request.expert_parallel is not None:
        return question.request.expert_parallel
    is_family_choice = question.family is not None and question.family.expert_parallel
    return bool(question.facts.num_experts) and tensor * data > 1 and (is_family_choice or data > 1)


def _with_pipelines(question: Question, classes: tuple[ClassCapacity, ...]) -> Iterator[Candidate]:
    """Judge pipeline stages inside a node: the way out where heads do not divide by the number of GPUs needed."""
    request = question.request
    if request.pipeline_parallel_size is not None or request.data_parallel_size is not None:
        return
    tensors = TENSOR_SIZES if request.tensor_parallel_size is None else (request.tensor_parallel_size,)
    for capacity in classes:
        if not capacity.gpu_class.joins_devices:
            continue
        for pipeline in _PIPELINE_SIZES:
            for tensor in tensors:
                if tensor * pipeline <= capacity.most_gpus_on_a_node:
                    yield _judge(question, capacity, _spread(question, tensor=tensor, pipeline=pipeline, data=1))


def _judge(question: Question, capacity: ClassCapacity, parallelism: Parallelism) -> Candidate:
    """Judge one candidate; where its product is not known to be allowed it is Unknown at best."""
    candidate = _judge_by_memory(question, capacity, parallelism)
    if not question.request.gpus.cannot_tell(capacity.gpu_class):
        return candidate
    verdict = Verdict.UNKNOWN if _holds(candidate) else candidate.verdict
    return replace(candidate, verdict=verdict, placeable=False)


def _judge_by_memory(question: Question, capacity: ClassCapacity, parallelism: Parallelism) -> Candidate:
    room = capacity.room(parallelism.gpus_per_node, parallelism.nodes)
    device = device_for(capacity.gpu_class)
    if device is None:
        return _unsized(question, capacity, parallelism, room, _verdict_without_memory(question, room, parallelism))
    in_use = capacity.in_use_bytes
    sizes = sizes_for(question, parallelism, device, clients=_clients(capacity), in_use_bytes=in_use)
    if sizes.problems:
        verdict = Verdict.DOES_NOT_FIT if sizes.refused else Verdict.UNKNOWN
        unsized = _unsized(question, capacity, parallelism, room, verdict)
        return replace(unsized, device=device, problems=sizes.problems)
    fitting = sizes.fitting(question.request, lambda: _best_size(question, sizes))
    return Candidate(
        capacity=capacity,
        parallelism=parallelism,
        room=room,
        verdict=_verdict(question.request, room) if fitting.need.fits else Verdict.DOES_NOT_FIT,
        device=device,
        size=fitting.size,
        need=fitting.need,
        context_length=fitting.context_length,
        concurrency=fitting.concurrency,
    )


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
        if need.fits and context >= _useful_context(question):
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
    sizes = sizes_for(question, parallelism, largest)
    if sizes.refused:
        return Verdict.DOES_NOT_FIT
    if sizes.problems:
        return Verdict.UNKNOWN
    needs = (size.memory_room.need(*_workload(question, size.memory_room)) for size in sizes.attempts())
    return Verdict.UNKNOWN if any(need.fits for need in needs) else Verdict.DOES_NOT_FIT


def _clients(capacity: ClassCapacity) -> int:
    """How many pods share the memory of one device without a limit between them; an MPS share or slice has its own."""
    if capacity.gpu_class.sharing is not Sharing.TIME_SLICED:
        return 1
    return capacity.gpu_class.clients_per_device or ASSUMED_CLIENTS


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
