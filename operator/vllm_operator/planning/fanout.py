"""Which plans a change of the cluster can alter, so that not every change re-judges every deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.planning.capacity import GpuFilter, capacity_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.cluster.records import GpuClass
    from vllm_operator.planning.plan import Plan
    from vllm_operator.planning.request import Request

_GROUP_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of GPUs that a replica may take (every product of the searched tensor and pipeline sizes up to a node)."""


def inputs_read(request: Request, *, gpus_per_replica: int) -> Mapping[str, object]:
    """What of the cluster a plan has looked at."""
    return {"gpus": request.gpus, "replicas": request.replicas_with_surge, "gpus_per_replica": gpus_per_replica}


def affected(plan: Plan, old_inventory: Inventory, new_inventory: Inventory) -> bool:
    """Whether planning again on the new inventory could give another plan.

    Room beyond what the replicas and their rollout need does not count: a pod that starts on one of ten free nodes
    alters nothing.
    """
    gpu_filter, replicas = plan.inputs_read.get("gpus"), plan.inputs_read.get("replicas")
    if not isinstance(gpu_filter, GpuFilter) or not isinstance(replicas, int):
        return True
    own_size = plan.inputs_read.get("gpus_per_replica")
    sizes = (*_GROUP_SIZES, own_size) if isinstance(own_size, int) else _GROUP_SIZES
    if _view(gpu_filter, old_inventory, replicas, sizes) != _view(gpu_filter, new_inventory, replicas, sizes):
        return True
    return _nodes(plan, gpu_filter, old_inventory) != _nodes(plan, gpu_filter, new_inventory)


def _view(
    gpu_filter: GpuFilter, inventory: Inventory, replicas: int, sizes: tuple[int, ...]
) -> Mapping[GpuClass, tuple[object, ...]]:
    """All that a search can tell of an inventory: room for each group size, no finer than the replicas need."""
    view: dict[GpuClass, tuple[object, ...]] = {}
    for capacity in capacity_for(gpu_filter, inventory).classes:
        rooms = [capacity.room(size) for size in sizes if size > 0]
        view[capacity.gpu_class] = (
            capacity.most_gpus_on_a_node,
            capacity.in_use_bytes,
            *((min(r.free, replicas), min(r.allocatable, replicas), min(r.declared, replicas)) for r in rooms),
        )
    return view


def _nodes(plan: Plan, gpu_filter: GpuFilter, inventory: Inventory) -> tuple[str, ...]:
    if plan.placement is None:
        return ()
    for capacity in capacity_for(gpu_filter, inventory).classes:
        if capacity.gpu_class == plan.placement.gpu_class:
            return capacity.node_names(plan.placement.gpus_per_replica)
    return ()
