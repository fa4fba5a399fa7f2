"""An inventory sorted into the classes that a request may use: once for each, and from the one before where it can.

On a cluster that is used, pods come and go all the time and nodes seldom do. A new inventory then differs from the last
in a node or two, and only those are counted again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vllm_operator.planning.capacity import Capacity, ClassCapacity, Slot, class_order
from vllm_operator.planning.host import HostRoom

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.cluster.records import GpuClass, GpuOffer
    from vllm_operator.planning.capacity import Exclusion, GpuFilter
    from vllm_operator.planning.host import HostRequest

REMEMBERED: Final = 32
"""Inventories, each for one `gpu` section; a comparison of two inventories for a dozen sections has room."""
MOST_CHANGES: Final = 64
"""Offers that differ, beyond which sorting anew costs no more."""


class _RecentlyUsed:
    """A small memory of pure results, keyed by an inventory's identity; holding the inventory keeps its id its own."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[tuple[int, GpuFilter], tuple[Inventory, Capacity]] = OrderedDict()

    def get(self, inventory: Inventory, gpu_filter: GpuFilter) -> Capacity | None:
        entry = self._entries.get((id(inventory), gpu_filter))
        return entry[1] if entry is not None else None

    def latest(self, gpu_filter: GpuFilter) -> tuple[Inventory, Capacity] | None:
        """Return what was sorted last for such a request."""
        keys = (key for key in reversed(self._entries) if key[1] == gpu_filter)
        return self._entries.get(next(keys, (0, gpu_filter)))

    def put(self, inventory: Inventory, gpu_filter: GpuFilter, capacity: Capacity) -> None:
        self._entries[(id(inventory), gpu_filter)] = (inventory, capacity)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)


_recent = _RecentlyUsed(REMEMBERED)


def capacity_for(gpu_filter: GpuFilter, inventory: Inventory) -> Capacity:
    """Sort an inventory into the classes that a request may use; done once for each snapshot and `gpu` section."""
    capacity = _recent.get(inventory, gpu_filter)
    if capacity is None:
        latest = _recent.latest(gpu_filter)
        capacity = _counted_again(gpu_filter, *latest, inventory) if latest is not None else None
        capacity = capacity or _sort_offers(gpu_filter, inventory.offers)
        _recent.put(inventory, gpu_filter, capacity)
    return capacity


def _counted_again(gpu_filter: GpuFilter, old: Inventory, capacity: Capacity, new: Inventory) -> Capacity | None:
    """Return the capacity of an inventory in which pods hold something else; None where more than that has changed."""
    if len(old.offers) != len(new.offers):
        return None
    pairs = [(then, now) for then, now in zip(old.offers, new.offers, strict=True) if then is not now]
    if len(pairs) > MOST_CHANGES or any(_is_another(then, now) for then, now in pairs):
        return None
    of_class: dict[GpuClass, dict[int, tuple[GpuOffer, GpuOffer]]] = {}
    for then, now in pairs:
        of_class.setdefault(then.gpu_class, {})[id(then)] = (then, now)
    newest = {id(then): now for then, now in pairs}
    return Capacity(
        classes=tuple(
            _class_counted_again(gpu_filter, one, of_class[one.gpu_class]) if one.gpu_class in of_class else one
            for one in capacity.classes
        ),
        excluded={
            exclusion: tuple(newest.get(id(offer), offer) for offer in offers)
            for exclusion, offers in capacity.excluded.items()
        },
        other_resources=capacity.other_resources,
    )


def _is_another(then: GpuOffer, now: GpuOffer) -> bool:
    """Whether two offers differ in what decides where they are sorted, or which nodes are named.

    What a node allocates may change with its record the same: ResourceSlices say it too.
    """
    return (
        (then.node is not now.node and then.node != now.node)
        or then.gpu_class != now.gpu_class
        or then.allocatable != now.allocatable
        or then.declared is not now.declared
    )


def _class_counted_again(
    gpu_filter: GpuFilter, capacity: ClassCapacity, changed: Mapping[int, tuple[GpuOffer, GpuOffer]]
) -> ClassCapacity:
    alone = gpu_filter.host.request(1)
    slots, offers = Counter(capacity.slots), []
    for offer in capacity.offers:
        if (pair := changed.get(id(offer))) is not None:
            slots[slot_of(gpu_filter, offer, alone)] -= 1
            slots[slot_of(gpu_filter, pair[1], alone)] += 1
        offers.append(pair[1] if pair is not None else offer)
    slots = Counter({slot: nodes for slot, nodes in slots.items() if nodes})
    return replace(capacity, offers=tuple(offers), slots=slots, _rooms={})


def _sort_offers(gpu_filter: GpuFilter, offers: Iterable[GpuOffer]) -> Capacity:
    by_class: dict[GpuClass, list[GpuOffer]] = {}
    for offer in offers:
        by_class.setdefault(offer.gpu_class, []).append(offer)
    classes: list[ClassCapacity] = []
    excluded: dict[Exclusion, list[GpuOffer]] = {}
    for gpu_class, all_offers in by_class.items():
        if not gpu_filter.wants(gpu_class):
            continue
        exclusion = gpu_filter.excludes_class(gpu_class)
        if exclusion is not None:
            excluded.setdefault(exclusion, []).extend(all_offers)
            continue
        usable: list[GpuOffer] = []
        for offer in all_offers:
            exclusion = gpu_filter.excludes_node(offer.node, gpu_class.resource_name)
            (usable if exclusion is None else excluded.setdefault(exclusion, [])).append(offer)
        if usable:
            classes.append(_class_capacity(gpu_filter, gpu_class, usable))
    unwanted = {gpu_class.resource_name for gpu_class in by_class if not gpu_filter.wants(gpu_class)}
    return Capacity(
        classes=tuple(sorted(classes, key=lambda capacity: class_order(capacity.gpu_class))),
        excluded={exclusion: tuple(its_offers) for exclusion, its_offers in excluded.items()},
        other_resources=tuple(sorted(unwanted)),
    )


def _class_capacity(gpu_filter: GpuFilter, gpu_class: GpuClass, offers: list[GpuOffer]) -> ClassCapacity:
    alone = gpu_filter.host.request(1)
    slots = Counter(slot_of(gpu_filter, offer, alone) for offer in offers)
    return ClassCapacity(gpu_class=gpu_class, offers=tuple(offers), slots=slots, host=gpu_filter.host)


def slot_of(gpu_filter: GpuFilter, offer: GpuOffer, alone: HostRequest) -> Slot:
    """Return what makes a node like others: for most, the host has enough for a replica on each GPU (`alone`).

    What a replica takes grows no faster than its GPUs, so such a host has enough for fewer and larger ones too.
    """
    free, node, gpus = offer.free, offer.node, offer.allocatable
    cpu, memory, pods = offer.free_cpu_millis, offer.free_memory_bytes, offer.free_pods
    whole = (node.allocatable_cpu_millis, node.allocatable_memory_bytes, node.allocatable_pods)
    return Slot(
        gpu_filter.may_use_now(offer),
        offer.declared,
        gpus,
        free,
        None if _is_ample(*whole, gpus, alone) else HostRoom(*whole),
        None if _is_ample(cpu, memory, pods, free, alone) else HostRoom(cpu, memory, pods),
    )


def _is_ample(cpu: int | None, memory: int | None, pods: int | None, replicas: int, each: HostRequest) -> bool:
    return (
        (cpu is None or cpu >= replicas * each.cpu_millis)
        and (memory is None or memory >= replicas * each.memory_bytes)
        and (pods is None or pods >= replicas)
    )
