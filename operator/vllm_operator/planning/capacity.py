"""Where replicas could go: the offers of an inventory that a request may use, and how many replicas they hold.

Only whole nodes count: a pod's GPUs are never added up over two nodes. A replica of several nodes is as many pods.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from vllm_operator.cluster.records import Sharing, Taint
from vllm_operator.planning.host import ENGINE_ALONE, HostNeed, HostRoom
from vllm_operator.planning.packing import groups_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.records import GpuClass, GpuOffer, NodeRecord

SHARED = frozenset({Sharing.TIME_SLICED, Sharing.MPS})

NOMINAL_SHARE = 0.93
"""Share of the memory on the box that a driver reports ("24 GB" L4: 23,034 MiB). People ask for what is on the box."""

_KEEPS_PODS_AWAY = frozenset({"NoSchedule", "NoExecute"})

_CORDON: Final = Taint(key="node.kubernetes.io/unschedulable")
_OF_THE_MOMENT: Final = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
"""Taints that Kubernetes sets while a node is cordoned, not ready or short of something, and takes away again."""


class Exclusion(StrEnum):
    """Why an offer is of no use to a request; each can be lifted by one change of the spec."""

    PRODUCT = "Product"
    MEMORY = "Memory"
    SHARING = "Sharing"
    NODE_SELECTOR = "NodeSelector"
    TAINT = "Taint"

    @property
    def field(self) -> str:
        """The field of the spec that rules the offer out, or whose absence does."""
        return _FIELDS[self]


_FIELDS = {
    Exclusion.PRODUCT: "spec.gpu.products",
    Exclusion.MEMORY: "spec.gpu.minMemory",
    Exclusion.SHARING: "spec.gpu.sharing (Exclusive)",
    Exclusion.NODE_SELECTOR: "spec.gpu.nodeSelector",
    Exclusion.TAINT: "a taint that spec.gpu.tolerations does not tolerate",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """One of the pod's tolerations, as the scheduler reads it."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Whether the scheduler lets a pod with this toleration past the taint."""
        if self.effect and self.effect != taint.effect:
            return False
        if not self.key:
            return self.operator == "Exists"
        return self.key == taint.key and (self.operator == "Exists" or self.value == taint.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFilter:
    """What a request allows: the `gpu` section of the spec."""

    resource_name: str | None = None
    """None: any resource of an NVIDIA GPU, whole or a slice; of any maker where the user brings the image."""
    any_vendor: bool = False
    products: tuple[str, ...] = ()
    min_memory_bytes: int | None = None
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    allow_shared: bool = False
    host: HostNeed = ENGINE_ALONE
    """What a replica takes of its node besides GPUs."""

    def excludes_class(self, gpu_class: GpuClass) -> Exclusion | None:
        """Why no node's offer of this class can be used, or None. What is unknown is not refused."""
        if self.products and gpu_class.product is not None:
            product = gpu_class.product.lower()
            if not any(fnmatchcase(product, pattern.lower()) for pattern in self.products):
                return Exclusion.PRODUCT
        least_bytes = (self.min_memory_bytes or 0) * NOMINAL_SHARE
        if gpu_class.memory_bytes is not None and gpu_class.memory_bytes < least_bytes:
            return Exclusion.MEMORY
        if gpu_class.sharing in SHARED and not self.allow_shared:
            return Exclusion.SHARING
        return None

    def cannot_tell(self, gpu_class: GpuClass) -> bool:
        """Whether the request allows certain products only and nothing says which product this class is."""
        return bool(self.products) and gpu_class.product is None

    def wants(self, gpu_class: GpuClass) -> bool:
        """Whether the class is of the kind that was asked for at all."""
        if self.resource_name is not None:
            return gpu_class.resource_name == self.resource_name
        return self.any_vendor or gpu_class.vendor == "nvidia"

    def excludes_node(self, node: NodeRecord, resource_name: str) -> Exclusion | None:
        """Why the scheduler would not put our pod on this node, or None."""
        if any(node.labels.get(key) != value for key, value in self.node_selector):
            return Exclusion.NODE_SELECTOR
        if any(not (_passes(taint) or self.tolerates(taint, resource_name)) for taint in node.taints):
            return Exclusion.TAINT
        return None

    def may_use_now(self, offer: GpuOffer) -> bool:
        """Whether the scheduler would put our pod there at this moment, if enough of it is free."""
        if offer.usable and not offer.node.taints:
            return True
        resource_name = offer.gpu_class.resource_name
        if offer.declared or not (offer.healthy and offer.allocatable and offer.node.ready):
            return False
        if not (offer.node.schedulable or self.tolerates(_CORDON, resource_name)):
            return False
        return all(self.tolerates(taint, resource_name) for taint in offer.node.taints)

    def tolerates(self, taint: Taint, resource_name: str) -> bool:
        """Whether the pod gets past a taint; it always tolerates the one named like its GPU resource."""
        if taint.effect not in _KEEPS_PODS_AWAY or taint.key == resource_name:
            return True
        return any(toleration.tolerates(taint) for toleration in self.tolerations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many replicas there is room for: right now, once GPUs in use are freed, and with what could be added."""

    free: int
    allocatable: int
    declared: int
    free_of_gpus: int = 0
    """As `free`, where only GPUs counted: what is missing of it is CPU, memory or pod slots of the nodes."""


class Slot(NamedTuple):
    """What makes nodes alike for a request. Host figures are None where GPUs run out before them anyway."""

    usable: bool
    declared: bool
    allocatable: int
    free: int
    host_allocatable: HostRoom | None = None
    host_free: HostRoom | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCapacity:
    """The offers of one GPU class that a request may use."""

    gpu_class: GpuClass
    offers: tuple[GpuOffer, ...]
    slots: Mapping[Slot, int] = field(repr=False)
    host: HostNeed = ENGINE_ALONE
    _rooms: dict[tuple[int, int], Room] = field(default_factory=dict, compare=False, repr=False)
    """Rooms by the GPUs of a pod and the pods of a replica, counted once."""
    _names: dict[int, tuple[str, ...]] = field(default_factory=dict, compare=False, repr=False)
    """Names by group size, sorted once."""
    most_gpus_on_a_node: int = field(init=False, compare=False, repr=False)
    """The largest number of this class that one node has, whoever uses them now."""
    in_use_bytes: int = field(init=False, compare=False, repr=False)
    """Memory that processes outside Kubernetes hold on the fullest GPU of the class, as far as anybody measured."""

    def __post_init__(self) -> None:
        """Read once what every candidate on this class is judged by."""
        object.__setattr__(self, "most_gpus_on_a_node", max((slot.allocatable for slot in self.slots), default=0))
        in_use = max((offer.memory_in_use_bytes or 0 for offer in self.offers), default=0)
        object.__setattr__(self, "in_use_bytes", in_use)

    @property
    def nodes_out_of_service(self) -> int:
        """Nodes that are cordoned, not ready or unhealthy: they may come back."""
        return sum(nodes for slot, nodes in self.slots.items() if not slot.usable and not slot.declared)

    def room(self, gpus_per_node: int, nodes: int = 1) -> Room:
        """How many replicas the nodes hold that take that many GPUs on each of so many nodes."""
        room = self._rooms.get((gpus_per_node, nodes))
        if room is None:
            room = self._count(gpus_per_node) if nodes == 1 else self._count_groups(gpus_per_node, nodes)
            self._rooms[gpus_per_node, nodes] = room
        return room

    def _count_groups(self, gpus: int, nodes: int) -> Room:
        """Count replicas that are spread; nodes that exist and nodes that are declared may hold one together."""
        declared = self._slots_of_pods(gpus, declared=True)
        return Room(
            free=groups_of(nodes, self._slots_of_pods(gpus, free=True)),
            allocatable=groups_of(nodes, self._slots_of_pods(gpus)),
            declared=groups_of(nodes, [*self._slots_of_pods(gpus), *declared]) if declared else 0,
            free_of_gpus=groups_of(nodes, self._slots_of_pods(gpus, free=True, by_gpus_alone=True)),
        )

    def spread_of(self, gpus_per_node: int, groups: int) -> tuple[int, int, int]:
        """How many pods that many groups could have at most: right now, once GPUs are freed, and on declared nodes."""
        free, freed, declared = (
            sum(nodes * min(pods, groups) for pods, nodes in slots)
            for slots in (
                self._slots_of_pods(gpus_per_node, free=True),
                self._slots_of_pods(gpus_per_node),
                self._slots_of_pods(gpus_per_node, declared=True),
            )
        )
        return free, freed, declared

    def _slots_of_pods(
        self, gpus: int, *, free: bool = False, declared: bool = False, by_gpus_alone: bool = False
    ) -> list[tuple[int, int]]:
        """Return how many pods of that many GPUs a node holds, and how many such nodes there are."""
        found = []
        for slot, nodes in self.slots.items():
            if slot.declared is not declared or (free and not slot.usable):
                continue
            by_gpus = (slot.free if free else slot.allocatable) // gpus
            host = slot.host_free if free else slot.host_allocatable
            pods = by_gpus if by_gpus_alone else self._replicas(by_gpus, gpus, host)
            if pods:
                found.append((pods, nodes))
        return found

    def _count(self, gpus: int) -> Room:
        free = allocatable = declared = free_of_gpus = 0
        for slot, nodes in self.slots.items():
            number = nodes * self._replicas(slot.allocatable // gpus, gpus, slot.host_allocatable)
            if slot.declared:
                declared += number
                continue
            allocatable += number
            if slot.usable:
                free_of_gpus += nodes * (slot.free // gpus)
                free += nodes * self._replicas(slot.free // gpus, gpus, slot.host_free)
        return Room(free=free, allocatable=allocatable, declared=declared, free_of_gpus=free_of_gpus)

    def _replicas(self, by_gpus: int, gpus: int, host: HostRoom | None) -> int:
        by_host = host.replicas(self.host.request(gpus)) if host is not None else None
        return by_gpus if by_host is None else min(by_gpus, by_host)

    def node_names(self, gpus_per_pod: int) -> tuple[str, ...]:
        """Names of the nodes that are big enough for one pod, sorted; declared capacity has no nodes yet."""
        names = self._names.get(gpus_per_pod)
        if names is None:
            existing = (offer for offer in self.offers if not offer.declared)
            names = tuple(sorted(offer.node.name for offer in existing if self._is_big_enough(offer, gpus_per_pod)))
            self._names[gpus_per_pod] = names
        return names

    def _is_big_enough(self, offer: GpuOffer, gpus: int) -> bool:
        return self._replicas(offer.allocatable // gpus, gpus, whole_host(offer)) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What an inventory holds for a request, and what it holds that the request itself rules out."""

    classes: tuple[ClassCapacity, ...]
    excluded: Mapping[Exclusion, tuple[GpuOffer, ...]]
    other_resources: tuple[str, ...]
    """Names of the GPU resources of the cluster that the request did not ask for, sorted."""
    terms: dict[GpuClass, tuple[Mapping[str, tuple[str, ...]], ...]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Affinity of classes that were asked for before (planning.affinity)."""


def whole_host(offer: GpuOffer) -> HostRoom:
    """Return what the offer's node has for pods in all, whoever holds it now."""
    node = offer.node
    return HostRoom(node.allocatable_cpu_millis, node.allocatable_memory_bytes, node.allocatable_pods)


def _passes(taint: Taint) -> bool:
    return taint.key.startswith(_OF_THE_MOMENT)


def class_order(gpu_class: GpuClass) -> tuple[int, str, str, str, str, str]:
    """A total order of classes that does not depend on the order of nodes: smallest memory first, then by name."""
    return (
        gpu_class.memory_bytes or 0,
        gpu_class.product or "",
        gpu_class.sharing.value,
        gpu_class.mig_profile or "",
        gpu_class.basis.value,
        f"{gpu_class.vendor} {gpu_class.compute_capability} {gpu_class.interconnect}",
    )
