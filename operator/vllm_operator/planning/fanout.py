"""Which plans a change of the cluster can alter, so that not every change re-judges every deployment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from vllm_operator.planning.capacity import GpuFilter, whole_host
from vllm_operator.planning.groups import MOST_NODES
from vllm_operator.planning.plan import Verdict
from vllm_operator.planning.sorting import capacity_for, slot_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.cluster.records import GpuClass, GpuOffer
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


class Question(NamedTuple):
    """What of a plan decides whether a change can alter it: plans with the same question share the answer."""

    gpus: GpuFilter
    replicas: int
    gpus_per_pod: int | None
    looks_at_groups: bool
    gpu_class: GpuClass | None
    """On which it is placed, if it is."""
    placed_gpus_per_pod: int | None


def question_of(plan: Plan) -> Question | None:
    """Return a plan's question; None where it does not say what it has read, and any change may alter it."""
    inputs, placement = plan.inputs_read, plan.placement
    gpu_filter, replicas, gpus_per_pod = inputs.get("gpus"), inputs.get("replicas"), inputs.get("gpus_per_pod")
    if not isinstance(gpu_filter, GpuFilter) or not isinstance(replicas, int):
        return None
    return Question(
        gpu_filter,
        replicas,
        gpus_per_pod if isinstance(gpus_per_pod, int) else None,
        bool(inputs.get("looks_at_groups")),
        placement.gpu_class if placement is not None else None,
        placement.gpus_per_pod if placement is not None else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Two inventories, and the offers that only one of them has. An offer that nothing happened to is one object."""

    old: Inventory
    new: Inventory
    gone: tuple[GpuOffer, ...]
    come: tuple[GpuOffer, ...]
    rebuilt: frozenset[object]
    """The nodes, and the GPU classes on them, that differ in more than in what pods hold."""

    @classmethod
    def between(cls, old: Inventory, new: Inventory) -> Change:
        """Compare two inventories."""
        before, after = set(map(id, old.offers)), set(map(id, new.offers))
        gone = tuple(offer for offer in old.offers if id(offer) not in after)
        come = tuple(offer for offer in new.offers if id(offer) not in before)
        return cls(old=old, new=new, gone=gone, come=come, rebuilt=_rebuilt(gone, come))


def affected(question: Question, change: Change) -> bool:
    """Whether planning again after the change could give another plan.

    Room beyond what the replicas and their rollout need does not count: a pod that starts on one of ten free nodes
    alters nothing. Most changes are told from the few offers that differ, whatever the size of the cluster.
    """
    if _seen(question.gpus, change.gone) == _seen(question.gpus, change.come):
        return False
    old, new = (_view(question, inventory) for inventory in (change.old, change.new))
    return old != new or _nodes(question, change.old) != _nodes(question, change.new)


def _seen(gpu_filter: GpuFilter, offers: Iterable[GpuOffer]) -> Counter[Hashable]:
    """All that `_view` and `_nodes` can tell of some offers, however many others there are."""
    alone = gpu_filter.host.request(1)
    seen: Counter[Hashable] = Counter()
    for offer in offers:
        gpu_class = offer.gpu_class
        if not gpu_filter.wants(gpu_class) or gpu_filter.excludes_class(gpu_class) is not None:
            continue
        if gpu_filter.excludes_node(offer.node, gpu_class.resource_name) is None:
            slot = slot_of(gpu_filter, offer, alone)
            seen[gpu_class, slot, offer.node.name, whole_host(offer), offer.memory_in_use_bytes] += 1
    return seen


def _view(question: Question, inventory: Inventory) -> Mapping[GpuClass, tuple[object, ...]]:
    """All that a search can tell of an inventory: room for each group size, no finer than the replicas need."""
    replicas = question.replicas
    groups = replicas if question.looks_at_groups else 0
    sizes = sorted({*_GROUP_SIZES, question.gpus_per_pod or 1})
    view: dict[GpuClass, tuple[object, ...]] = {}
    for capacity in capacity_for(question.gpus, inventory).classes:
        rooms = [capacity.room(size) for size in sizes]
        view[capacity.gpu_class] = (
            capacity.most_gpus_on_a_node,
            capacity.in_use_bytes,
            *((min(r.free, replicas), min(r.allocatable, replicas), min(r.declared, replicas)) for r in rooms),
            *(
                tuple(min(pods, number * MOST_NODES) for pods in capacity.spread_of(size, number))
                for number in range(1, groups + 1)
                for size in sizes
            ),
        )
    return view


def _nodes(question: Question, inventory: Inventory) -> tuple[str, ...]:
    """Names of the nodes that could hold a pod of the plan, on the class on which it is placed."""
    if question.placed_gpus_per_pod is None:
        return ()
    for capacity in capacity_for(question.gpus, inventory).classes:
        if capacity.gpu_class == question.gpu_class:
            return capacity.node_names(question.placed_gpus_per_pod)
    return ()


def _rebuilt(gone: tuple[GpuOffer, ...], come: tuple[GpuOffer, ...]) -> frozenset[object]:
    before, after = _by_node(gone), _by_node(come)
    found: set[object] = set()
    for name in before.keys() | after.keys():
        then, now = before.get(name, ()), after.get(name, ())
        if tuple(map(_without_pods, then)) != tuple(map(_without_pods, now)):
            found.add(name)
            found |= {offer.gpu_class for offer in (*then, *now)}
    return frozenset(found)


def _by_node(offers: Iterable[GpuOffer]) -> dict[str, tuple[GpuOffer, ...]]:
    found: dict[str, tuple[GpuOffer, ...]] = {}
    for offer in offers:
        found[offer.node.name] = (*found.get(offer.node.name, ()), offer)
    return found


def _without_pods(offer: GpuOffer) -> GpuOffer:
    return replace(offer, free=0, free_cpu_millis=None, free_memory_bytes=None, free_pods=None)
