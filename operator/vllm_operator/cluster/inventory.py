"""The inventory: an immutable, versioned snapshot of what the cluster offers and what is free of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vllm_operator.cluster.records import GpuOffer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.cluster.records import NodeRecord, PodRecord

Held = Mapping[str, int]
"""What the pods of one node hold together, by resource; `pods` counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What the planner sees of the cluster.

    `offers` has one entry for each node and kind of accelerator resource, by node name, then what is declared but
    does not exist yet.
    """

    version: int = 0
    offers: tuple[GpuOffer, ...] = ()
    nodes: Mapping[str, NodeRecord] = field(default_factory=dict, hash=False)
    held: Mapping[str, Held] = field(default_factory=dict, hash=False, repr=False)
    owned: Mapping[str, tuple[PodRecord, ...]] = field(default_factory=dict, hash=False, repr=False)

    @classmethod
    def build(
        cls, nodes: Iterable[NodeRecord], pods: Iterable[PodRecord], declared: Iterable[GpuOffer] = ()
    ) -> Inventory:
        """Return the snapshot of a whole list of nodes and pods."""
        from vllm_operator.cluster.state import ClusterState

        state = ClusterState()
        state.replace_nodes(nodes)
        state.replace_pods(pods)
        state.replace_declared(declared)
        return state.snapshot()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the nodes, each naming the node."""
        return tuple(warning for node in self.nodes.values() for warning in node.warnings)

    def crediting(self, owner: str) -> Inventory:
        """Return the inventory as it would be without the pods of one VLLMDeployment (`namespace/name`)."""
        returned: dict[str, Counter[str]] = {}
        for pod in self.owned.get(owner, ()):
            if pod.node_name is not None:
                back = returned.setdefault(pod.node_name, Counter())
                back.update(pod.requests)
                back["pods"] += 1
        if not returned:
            return self
        recounted = {
            name: iter(offers_of(self.nodes[name], _without(self.held[name], back)))
            for name, back in returned.items()
            if name in self.held
        }
        offers = tuple(
            next(recounted[offer.node.name]) if offer.node.name in recounted and not offer.declared else offer
            for offer in self.offers
        )
        return replace(self, offers=offers)


def offers_of(node: NodeRecord, held: Held) -> tuple[GpuOffer, ...]:
    """Return what one node offers while its pods hold `held`."""
    if not node.gpus:
        return ()
    cpu = _left(node.allocatable_cpu_millis, held.get("cpu", 0))
    memory = _left(node.allocatable_memory_bytes, held.get("memory", 0))
    pods = _left(node.allocatable_pods, held.get("pods", 0))
    in_service = node.ready and node.schedulable
    return tuple(
        GpuOffer(
            node=node,
            gpu_class=gpus.gpu_class,
            capacity=gpus.capacity,
            allocatable=gpus.allocatable,
            free=max(0, gpus.allocatable - held.get(gpus.gpu_class.resource_name, 0)),
            usable=in_service and gpus.healthy and gpus.allocatable > 0,
            free_cpu_millis=cpu,
            free_memory_bytes=memory,
            free_pods=pods,
            warnings=gpus.warnings,
        )
        for gpus in node.gpus
    )


def _without(held: Held, back: Held) -> Held:
    return {resource: number - back.get(resource, 0) for resource, number in held.items()}


def _left(allocatable: int | None, held: int) -> int | None:
    return None if allocatable is None else max(0, allocatable - held)
