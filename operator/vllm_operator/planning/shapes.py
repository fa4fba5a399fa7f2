"""The ways to spread one replica over the GPUs of a single node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.planning.groups import TENSOR_SIZES
from vllm_operator.planning.tuning import Parallelism

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.planning.capacity import ClassCapacity
    from vllm_operator.planning.sizing import Question

_PIPELINE_SIZES = (2, 3, 4, 6, 8)


def tensor_shapes(question: Question, capacity: ClassCapacity) -> Iterator[Parallelism]:
    """Yield the ways to spread a replica over this class: what the user fixed, else every size that a node has."""
    request = question.request
    data, pipeline = request.data_parallel_size or 1, request.pipeline_parallel_size or 1
    tensors = TENSOR_SIZES if request.tensor_parallel_size is None else (request.tensor_parallel_size,)
    largest = capacity.most_gpus_on_a_node if capacity.gpu_class.joins_devices else 1
    for tensor in tensors:
        parallelism = spread(question, tensor=tensor, pipeline=pipeline, data=data)
        if parallelism.gpus <= largest or tensor == tensors[0]:
            yield parallelism


def spread(question: Question, *, tensor: int, pipeline: int, data: int) -> Parallelism:
    """The shape on one node, with experts whole or cut as they are run."""
    expert = runs_whole_experts(question, tensor, data)
    return Parallelism(tensor=tensor, pipeline=pipeline, data=data, expert=expert)


def runs_whole_experts(question: Question, tensor: int, data: int) -> bool:
    """Whether each GPU holds some experts whole: as the user says, else as the model's family is run."""
    if question.request.expert_parallel is not None:
        return question.request.expert_parallel
    is_family_choice = question.family is not None and question.family.expert_parallel
    return bool(question.facts.num_experts) and tensor * data > 1 and (is_family_choice or data > 1)


def copied_shapes(question: Question, capacity: ClassCapacity, whole: Parallelism) -> Iterator[Parallelism]:
    """Yield the ways to copy the attention of a model with experts to as many GPUs instead of cutting it.

    Tensor parallelism cannot cut a KV cache into more parts than it has heads (an MLA cache: none at all), so every GPU
    holds all sequences; with data parallelism each holds its own, while the experts stay spread over all of them.
    """
    request = question.request
    is_chosen = request.data_parallel_size is not None or request.tensor_parallel_size is not None
    if not question.facts.num_experts or is_chosen:
        return
    if whole.pipeline > 1 or whole.gpus > capacity.most_gpus_on_a_node:
        return
    for data in (size for size in TENSOR_SIZES if 1 < size <= whole.tensor):
        yield spread(question, tensor=whole.tensor // data, pipeline=1, data=data)


def pipeline_shapes(question: Question, capacity: ClassCapacity) -> Iterator[Parallelism]:
    """Yield pipeline stages inside a node: the way out where heads do not divide by the number of GPUs needed."""
    request = question.request
    if request.pipeline_parallel_size is not None or request.data_parallel_size is not None:
        return
    if not capacity.gpu_class.joins_devices:
        return
    tensors = TENSOR_SIZES if request.tensor_parallel_size is None else (request.tensor_parallel_size,)
    for pipeline in _PIPELINE_SIZES:
        for tensor in tensors:
            if tensor * pipeline <= capacity.most_gpus_on_a_node:
                yield spread(question, tensor=tensor, pipeline=pipeline, data=1)
