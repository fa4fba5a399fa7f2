"""What a replica takes of one kind of GPU, before the length of its context is chosen, remembered.

The same sizes come up for every class of a cluster, every suggestion and every new snapshot: they depend on the model,
on the engine's settings and on the policy, not on what is free.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.grouping import SpecKind
from vllm_operator.models.recent import recent_layout
from vllm_operator.models.settings import resolve_settings
from vllm_operator.models.validity import problems_of_laid_out
from vllm_operator.planning.forecast import forecast, refusals
from vllm_operator.planning.need import memory_room, share_of_a_copy
from vllm_operator.planning.tuning import batchings, dtype_for, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from vllm_operator.models.facts import Device, EngineSettings, ModelFacts
    from vllm_operator.models.settings import ResolvedSettings
    from vllm_operator.planning.families import Family
    from vllm_operator.planning.forecast import Forecast
    from vllm_operator.planning.need import MemoryRoom, Need
    from vllm_operator.planning.offer import Offer
    from vllm_operator.planning.request import Request
    from vllm_operator.planning.tuning import Batching, Parallelism

_REMEMBERED_QUESTIONS = 512
_REMEMBERED_CONTEXTS = 16
SMALLEST_UTILIZATION = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What every candidate is judged by."""

    request: Request
    facts: ModelFacts
    family: Family | None
    known: dict[tuple[Device, float], SizesOnDevice] = field(compare=False, repr=False)
    """Sizes that were computed for this model and these settings before, by device and share of its memory."""
    offers: dict[int, Offer] = field(init=False, default_factory=dict, compare=False, repr=False)
    """What each class offers (planning.offer), by the identity of the class's capacity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One batch size on one kind of GPU, with the room that it leaves for the KV cache."""

    settings: EngineSettings
    batching: Batching
    forecast: Forecast
    memory_room: MemoryRoom

    @property
    def utilization(self) -> float:
        """Share of the GPU's memory that vLLM is given."""
        assert self.settings.gpu_memory_utilization is not None
        return self.settings.gpu_memory_utilization

    def settings_at(self, context_length: int) -> EngineSettings:
        """The settings with the chosen length."""
        return replace(self.settings, max_model_len=context_length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """The size that serves a workload best, with the workload that is planned for and what it needs."""

    size: Size
    need: Need
    context_length: int
    concurrency: int


class Sizes:
    """The batch sizes to try on one kind of GPU, preferred first, each computed when it is first asked for."""

    def __init__(self, *, problems: tuple[str, ...] = (), refused: bool = False, rest: Iterator[Size] | None = None):
        self.problems = problems
        """Why there is no size: vLLM would refuse, or the model cannot be computed."""
        self.refused = refused
        self._made: list[Size] = []
        self._rest = rest
        self._fittings: OrderedDict[tuple[int | None, bool], Fitting] = OrderedDict()

    def attempts(self) -> Iterator[Size]:
        """Yield the sizes."""
        yield from self._made
        while self._rest is not None and (made := next(self._rest, None)) is not None:
            self._made.append(made)
            yield made

    def fitting(self, request: Request, choose: Callable[[], Fitting]) -> Fitting:
        """What `choose()` found for the request's context, and with or without leave to shrink it, remembered.

        The rest that the choice depends on (model, concurrency, policy) is the same for all who share these sizes;
        what is free in the cluster is no part of it. Leave to shrink differs (`planning.decision`).
        """
        key = (request.context_length, request.policy.may_shrink)
        found = self._fittings.get(key)
        if found is None:
            found = self._fittings[key] = choose()
            if len(self._fittings) > _REMEMBERED_CONTEXTS:
                self._fittings.popitem(last=False)
        return found


class SizesOnDevice:
    """The sizes of replicas on GPUs of one kind, of whose memory vLLM is given one share."""

    def __init__(self, device: Device, share: float) -> None:
        self._device = device
        self._share = share
        self._by_shape: dict[Parallelism, Sizes] = {}

    def of(self, question: Question, shape: Parallelism) -> Sizes:
        """Return those of one shape, computed once for all questions about these settings."""
        sizes = self._by_shape.get(shape)
        if sizes is None:
            sizes = self._by_shape[shape] = _sizes(_with_share(question, self._share), shape, self._device)
        return sizes


_questions: OrderedDict[Hashable, tuple[ModelFacts, dict[tuple[Device, float], SizesOnDevice]]] = OrderedDict()


def question_of(request: Request, facts: ModelFacts, family: Family | None) -> Question:
    """The question that a request is, with what is known of it already.

    NB: the key holds the identity of `facts` and the entry keeps it alive, as in `planning.forecast`.
    """
    key = (id(facts), family, _what_sizes_depend_on(request))
    entry = _questions.get(key)
    if entry is None:
        entry = _questions[key] = (facts, {})
        if len(_questions) > _REMEMBERED_QUESTIONS:
            _questions.popitem(last=False)
    return Question(request=request, facts=facts, family=family, known=entry[1])


def _what_sizes_depend_on(request: Request) -> Hashable:
    return (
        request.engine_version,
        request.dtype,
        request.quantization,
        request.kv_cache_dtype,
        request.batching_mode,
        request.max_num_seqs,
        request.max_num_batched_tokens,
        request.concurrency,
        request.enforce_eager,
        request.lora,
        request.speculative,
        request.extra_args,
        request.policy,
    )


def sizes_on(question: Question, device: Device, *, clients: int = 1, in_use_bytes: int = 0) -> SizesOnDevice:
    """The sizes of replicas on GPUs of one kind.

    `clients` pods share each GPU, and processes outside Kubernetes hold `in_use_bytes` of it.
    """
    share = _own_share(question.request.policy.gpu_memory_utilization, device, clients, in_use_bytes)
    found = question.known.get((device, share))
    if found is None:
        found = question.known[device, share] = SizesOnDevice(device, share)
    return found


def _own_share(wanted: float, device: Device, clients: int, in_use_bytes: int) -> float:
    """The share of a GPU's memory that vLLM may be given, in whole hundredths where it is less than what is wanted.

    vLLM stops at once when less of the memory is free than its share (`request_memory` in vllm/v1/worker/utils.py).
    """
    share = wanted
    if clients > 1:
        share = _hundredths(wanted / clients)
    if in_use_bytes > 0:
        share = min(share, _hundredths(1 - in_use_bytes / device.memory_bytes))
    return max(share, SMALLEST_UTILIZATION)


def _hundredths(share: float) -> float:
    return math.floor(share * 100) / 100


def _with_share(question: Question, share: float) -> Question:
    policy = question.request.policy
    if share == policy.gpu_memory_utilization:
        return question
    return replace(question, request=replace(question.request, policy=replace(policy, gpu_memory_utilization=share)))


def _sizes(question: Question, parallelism: Parallelism, device: Device) -> Sizes:
    dtype, _ = dtype_for(question.request, question.facts, device)
    settings = settings_for(question.request, parallelism=parallelism, dtype=dtype, family=question.family)
    problems = refusals(question.facts, settings)
    if problems:
        return Sizes(problems=problems, refused=True)
    try:
        resolved = resolve_settings(question.facts, settings, device)
        recent_layout(question.facts, resolved)
    except ModelConfigError as error:
        return Sizes(problems=(str(error),))
    problems = problems_of_laid_out(question.facts, resolved, device)
    if problems:
        return Sizes(problems=problems, refused=True)
    return Sizes(rest=_each_size(question, parallelism, device, settings, resolved))


def _each_size(
    question: Question,
    parallelism: Parallelism,
    device: Device,
    settings: EngineSettings,
    resolved: ResolvedSettings,
) -> Iterator[Size]:
    sequences = share_of_a_copy(question.request.concurrency, parallelism.data)
    for wanted in batchings(
        question.request, resolved.max_num_seqs, resolved.max_num_batched_tokens, sequences=sequences
    ):
        batching = wanted
        predicted = forecast(question.facts, _tuned(settings, batching), device)
        states = _recurrent_states(predicted)
        if question.request.max_num_seqs is None and states is not None and 0 < states < batching.max_num_seqs:
            batching = replace(wanted, max_num_seqs=states, limited_by_state=True)
            predicted = forecast(question.facts, _tuned(settings, batching), device)
        room = memory_room(
            predicted, question.request.policy, vram_bytes=device.memory_bytes, group_size=parallelism.group
        )
        yield Size(settings=_tuned(settings, batching), batching=batching, forecast=predicted, memory_room=room)


def _tuned(settings: EngineSettings, batching: Batching) -> EngineSettings:
    return replace(settings, max_num_seqs=batching.max_num_seqs, max_num_batched_tokens=batching.max_num_batched_tokens)


def _recurrent_states(predicted: Forecast) -> int | None:
    """Sequences whose recurrent state the cache holds: vLLM captures no graphs for more of them and gives up.

    Source: `resolve_cudagraph_mode_and_sizes` in vllm/config/compilation.py. None for models without such state.
    """
    has_state = any(group.kind == SpecKind.STATE for group in predicted.layout.groups)
    capacity = predicted.memory.capacity
    return capacity.num_blocks if has_state and capacity is not None else None
