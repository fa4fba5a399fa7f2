"""One replica on several nodes: pipeline stages over the nodes, tensor parallelism within each.

Tensor parallelism exchanges activations twice in each layer and never leaves a node; pipeline stages pass them on once.
Every node holds as many stages and takes as many GPUs of one class as every other, because that is how vLLM numbers its
ranks: `world size / nnodes` consecutive ranks on each node, those of one tensor-parallel group side by side
(`local_world_size` in vllm/config/parallel.py, `initialize_model_parallel` in vllm/distributed/parallel_state.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.planning.capacity import ClassCapacity, Slot
from vllm_operator.planning.tuning import Parallelism

if TYPE_CHECKING:
    from vllm_operator.planning.request import Request

FEWEST_NODES: Final = 2
MOST_NODES: Final = 16
"""Nodes over which a replica is spread at most. Each stage adds its time to every token: beyond it, nobody serves."""
TENSOR_SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
_STAGES_ON_A_NODE: Final = (1, 2, 3, 4, 6, 8)


def shapes_over(nodes: int, request: Request, most_gpus_on_a_node: int) -> list[Parallelism]:
    """Return the ways to spread a replica over that many nodes: the fewest stages first, then the fewest GPUs.

    Fewest stages, because one token passes through all of them in turn: what is saved in GPUs would be paid with time.
    """
    if (request.data_parallel_size or 1) > 1:
        return []
    tensors = TENSOR_SIZES if request.tensor_parallel_size is None else (request.tensor_parallel_size,)
    shapes = (
        Parallelism(tensor=tensor, pipeline=stages * nodes, nodes=nodes)
        for tensor in tensors
        for stages in _stages_on_a_node(nodes, request)
        if tensor * stages <= most_gpus_on_a_node
    )
    return sorted(shapes, key=lambda shape: (shape.pipeline, shape.gpus))


def _stages_on_a_node(nodes: int, request: Request) -> tuple[int, ...]:
    fixed = request.pipeline_parallel_size
    if fixed is None:
        return _STAGES_ON_A_NODE
    return (fixed // nodes,) if fixed % nodes == 0 else ()


def with_enough_nodes(capacity: ClassCapacity) -> ClassCapacity:
    """Return the class as if there were as many of its largest nodes as a replica may take, all of them free."""
    most = capacity.most_gpus_on_a_node
    free = Slot(usable=True, declared=False, allocatable=most, free=most)
    return ClassCapacity(gpu_class=capacity.gpu_class, offers=(), slots={free: MOST_NODES}, host=capacity.host)
