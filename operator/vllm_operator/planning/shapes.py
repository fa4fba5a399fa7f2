"""The ways to spread one replica over the GPUs of a single node."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from vllm_operator.planning.groups import TENSOR_SIZES
from vllm_operator.planning.tuning import Parallelism

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.planning.capacity import ClassCapacity
    from vllm_operator.planning.sizing import Question

_PIPELINE_SIZES = (2, 3, 4, 6, 8)


class _Choices(NamedTuple):
    """What the shapes of a replica depend on: the same few come up for every class and every change of a spec."""

    most_gpus_on_a_node: int
    joins_devices: bool
    tensor: int | None
    pipeline: int | None
    data: int | None
    expert: bool | None
    has_experts: bool
    family_keeps_experts_whole: bool

    def runs_whole_experts(self, tensor: int, data: int) -> bool:
        if self.expert is not None:
            return self.expert
        return self.has_experts and tensor * data > 1 and (self.family_keeps_experts_whole or data > 1)

    def spread(self, *, tensor: int, pipeline: int = 1, data: int = 1) -> Parallelism:
        whole_experts = self.runs_whole_experts(tensor, data)
        return Parallelism(tensor=tensor, pipeline=pipeline, data=data, expert=whole_experts)

    @property
    def tensors(self) -> tuple[int, ...]:
        return TENSOR_SIZES if self.tensor is None else (self.tensor,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The ways to spread a replica over one node of a class."""

    alone: Parallelism
    """The whole replica on a single GPU, whether or not it may run so."""
    cut: tuple[Parallelism, ...]
    """By tensor parallelism: what the user fixed, else every size that a node has."""
    copied: Mapping[Parallelism, tuple[Parallelism, ...]]
    """For each cut the ways to copy the attention of a model with experts to as many GPUs instead of cutting it.

    Tensor parallelism cannot cut a KV cache into more parts than it has heads (an MLA cache: none at all), so every GPU
    holds all sequences; with data parallelism each holds its own, while the experts stay spread over all of them.
    """
    staged: tuple[Parallelism, ...]
    """With pipeline stages inside the node: the way out where heads do not divide by the number of GPUs needed."""
    without_stages: tuple[Parallelism, ...]
    """All that need no pipeline but what the user fixed."""
    cut_by_gpus: Mapping[int, tuple[Parallelism, ...]]
    """The cuts by their number of GPUs."""
    uncopied_by_gpus: Mapping[int, tuple[Parallelism, ...]]
    """The cuts and the stages by their number of GPUs."""


def shapes_of(question: Question, capacity: ClassCapacity) -> Shapes:
    """The shapes that a replica may take on the class."""
    return _shapes(_choices(question, capacity))


def runs_whole_experts(question: Question, capacity: ClassCapacity, shape: Parallelism) -> bool:
    """Whether each GPU holds some experts whole: as the user says, else as the model's family is run."""
    return _choices(question, capacity).runs_whole_experts(shape.tensor, shape.data)


def _choices(question: Question, capacity: ClassCapacity) -> _Choices:
    request, family = question.request, question.family
    return _Choices(
        most_gpus_on_a_node=capacity.most_gpus_on_a_node,
        joins_devices=capacity.gpu_class.joins_devices,
        tensor=request.tensor_parallel_size,
        pipeline=request.pipeline_parallel_size,
        data=request.data_parallel_size,
        expert=request.expert_parallel,
        has_experts=bool(question.facts.num_experts),
        family_keeps_experts_whole=family is not None and family.expert_parallel,
    )


@lru_cache(maxsize=1024)
def _shapes(choices: _Choices) -> Shapes:
    cut, staged = _cut(choices), _staged(choices)
    copied = {whole: _copied(choices, whole) for whole in cut}
    return Shapes(
        alone=choices.spread(tensor=1),
        cut=cut,
        copied=copied,
        staged=staged,
        without_stages=tuple(shape for whole in cut for shape in (whole, *copied[whole])),
        cut_by_gpus=_by_gpus(cut),
        uncopied_by_gpus=_by_gpus((*cut, *staged)),
    )


def _by_gpus(shapes: Iterable[Parallelism]) -> dict[int, tuple[Parallelism, ...]]:
    found: dict[int, tuple[Parallelism, ...]] = {}
    for shape in shapes:
        found[shape.gpus] = (*found.get(shape.gpus, ()), shape)
    return found


def _cut(choices: _Choices) -> tuple[Parallelism, ...]:
    data, pipeline = choices.data or 1, choices.pipeline or 1
    largest = choices.most_gpus_on_a_node if choices.joins_devices else 1
    shapes = [choices.spread(tensor=tensor, pipeline=pipeline, data=data) for tensor in choices.tensors]
    return tuple(shape for shape in shapes if shape.gpus <= largest or shape is shapes[0])


def _copied(choices: _Choices, whole: Parallelism) -> tuple[Parallelism, ...]:
    if not choices.has_experts or choices.data is not None or choices.tensor is not None:
        return ()
    if whole.pipeline > 1 or whole.gpus > choices.most_gpus_on_a_node:
        return ()
    sizes = (size for size in TENSOR_SIZES if 1 < size <= whole.tensor)
    return tuple(choices.spread(tensor=whole.tensor // size, data=size) for size in sizes)


def _staged(choices: _Choices) -> tuple[Parallelism, ...]:
    if choices.pipeline is not None or choices.data is not None or not choices.joins_devices:
        return ()
    return tuple(
        choices.spread(tensor=tensor, pipeline=pipeline)
        for pipeline in _PIPELINE_SIZES
        for tensor in choices.tensors
        if tensor * pipeline <= choices.most_gpus_on_a_node
    )
