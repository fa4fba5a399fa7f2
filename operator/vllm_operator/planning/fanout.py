"""Which plans a change of the cluster can alter, so that not every change re-judges every deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.planning.capacity import GpuFilter, capacity_for
from vllm_operator.planning.groups import MOST_NODES
from vllm_operator.planning.plan import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.cluster.records import GpuClass
    from vllm_operator.planning.plan import Plan
    from vllm_operator.planning.request import Request
    from vllm_operator.planning.tuning import Parallelism

_GROUP_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of GPUs that a pod may take (every product of the searched tensor and pipeline sizes up to a node)."""


def inputs_read(request: Request, verdict: Verdict, spread: Parallelism | None) -> Mapping[str, object]:
    """What of the cluster a plan has looked at."""
    return {
        "gpus": request.gpus,
        "replicas": request.replicas_with_surge,
        "gpus_per_pod": spread.gpus_per_node if spread is not None else 1,
        "looks_at_groups": _looks_at_groups(request, verdict, spread),
    }


def _looks_at_groups(request: Request, verdict: Verdict, spread: Parallelism | None) -> bool:
    """Whether replicas over several nodes are part of the plan, of one that may become possible, or of what is said."""
    if verdict is Verdict.DOES_NOT_FIT or (spread is not None and spread.nodes > 1):
        return True
    return verdict is not Verdict.FITS and request.one_node_only is None


def affected(plan: Plan, old_inventory: Inventory, new_inventory: Inventory) -> bool:
    """Whether planning again on the new inventory could give another plan.

    Room beyond what the replicas and their rollout need does not count: a pod that starts on one of ten free nodes
    alters nothing.
    """
    gpu_filter, replicas = plan.inputs_read.get("gpus"), plan.inputs_read.get("replicas")
    if not isinstance(gpu_filter, GpuFilter) or not isinstance(replicas, int):
        return True
    own_size = plan.inputs_read.get("gpus_per_pod")
    sizes = (*_GROUP_SIZES, own_size) if isinstance(own_size, int) else _GROUP_SIZES
    groups = replicas if plan.inputs_read.get("looks_at_groups") else 0
    old, new = (_view(gpu_filter, inventory, replicas, groups, sizes) for inventory in (old_inventory, new_inventory))
    if old != new:
        return True
    return _nodes(plan, gpu_filter, old_inventory) != _nodes(plan, gpu_filter, new_inventory)


def _view(
    gpu_filter: GpuFilter, inventory: Inventory, replicas: int, groups: int, sizes: tuple[int, ...]
) -> Mapping[GpuClass, tuple[object, ...]]:
    """All that a search can tell of an inventory: room for each group size, no finer than the replicas need."""
    view: dict[GpuClass, tuple[object, ...]] = {}
    for capacity in capacity_for(gpu_filter, inventory).classes:
        rooms = [capacity.room(size) for size in sizes if size > 0]
        view[capacity.gpu_class] = (
            capacity.most_gpus_on_a_node,
            capacity.in_use_bytes,
            *((min(r.free, replicas), min(r.allocatable, replicas), min(r.declared, replicas)) for r in rooms),
            *(
                tuple(min(pods, number * MOST_NODES) for pods in capacity.spread_of(size, number))
                for number in range(1, groups + 1)
                for size in sizes
                if size > 0
            ),
        )
    return view


def _nodes(plan: Plan, gpu_filter: GpuFilter, inventory: Inventory) -> tuple[str, ...]:
    if plan.placement is None:
        return ()
    for capacity in capacity_for(gpu_filter, inventory).classes:
        if capacity.gpu_class == plan.placement.gpu_class:
            return capacity.node_names(plan.placement.gpus_per_pod)
    return ()
