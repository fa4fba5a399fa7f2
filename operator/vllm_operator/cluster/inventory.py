"""The inventory: an immutable, versioned snapshot of what the cluster offers and what is free of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster.dra import dra_offers, incomplete_pools
from vllm_operator.cluster.records import GpuOffer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.cluster.dra import ClaimRecord, DeviceKey, DraOffer, SliceRecord
    from vllm_operator.cluster.records import GpuClass, NodeRecord, PodRecord

PODS: Final = "pods"
"""Key under which the number of pods on a node is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What is on one node besides its own record: its pods' requests, its published devices, which are taken."""

    requests: Mapping[str, int] = field(default_factory=dict, hash=False)
    slices: tuple[SliceRecord, ...] = ()
    taken: Mapping[DeviceKey, int] = field(default_factory=dict, hash=False)

    def without(self, pods: Iterable[PodRecord], claims: Iterable[ClaimRecord]) -> Holding:
        """Return the holding as it would be without some of its pods and claims."""
        requests, taken = Counter(self.requests), Counter(self.taken)
        for pod in pods:
            requests.subtract(pod.requests)
            requests[PODS] -= 1
        for claim in claims:
            taken.subtract(claim.devices)
        return Holding(requests=+requests, slices=self.slices, taken=+taken)


EMPTY: Final = Holding()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What the planner sees of the cluster.

    `offers` has one entry for each node and kind of accelerator resource, by node name, then what is declared but
    does not exist yet.
    """

    version: int = 0
    offers: tuple[GpuOffer, ...] = ()
    nodes: Mapping[str, NodeRecord] = field(default_factory=dict, hash=False, repr=False)
    """The nodes that offer something, or of which there is something to say."""
    holdings: Mapping[str, Holding] = field(default_factory=dict, hash=False, repr=False)
    owned_pods: Mapping[str, tuple[PodRecord, ...]] = field(default_factory=dict, hash=False, repr=False)
    owned_claims: Mapping[str, tuple[ClaimRecord, ...]] = field(default_factory=dict, hash=False, repr=False)

    @classmethod
    def build(
        cls, nodes: Iterable[NodeRecord], pods: Iterable[PodRecord], declared: Iterable[GpuOffer] = ()
    ) -> Inventory:
        """Return the snapshot of a whole list of nodes and pods."""
        from vllm_operator.cluster.state import ClusterState

        state = ClusterState()
        state.replace_nodes(nodes)
        state.replace_pods(pods)
        inventory = state.snapshot()
        return replace(inventory, offers=(*inventory.offers, *declared))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about nodes and what they offer, each naming the node, by node name and without repetition."""
        offering = {offer.node.name for offer in self.offers}
        of_nodes = [
            # A node's own warning is that it seems to offer nothing; it may still offer devices through claims.
            (name, warning)
            for name, node in self.nodes.items()
            if name not in offering
            for warning in node.warnings
        ]
        of_offers = [(offer.node.name, warning) for offer in self.offers for warning in offer.warnings]
        of_pools = [
            (name, warning) for name, holding in self.holdings.items() for warning in incomplete_pools(holding.slices)
        ]
        in_order = sorted([*of_nodes, *of_offers, *of_pools], key=lambda named: named[0])
        return tuple(dict.fromkeys(warning for _, warning in in_order))

    def crediting(self, owner: str) -> Inventory:
        """Return the inventory as it would be without the pods and claims of one VLLMDeployment (`namespace/name`)."""
        pods: dict[str, list[PodRecord]] = {}
        for pod in self.owned_pods.get(owner, ()):
            if pod.node_name in self.holdings:
                pods.setdefault(pod.node_name or "", []).append(pod)
        claims: dict[str, list[ClaimRecord]] = {}
        for claim in self.owned_claims.get(owner, ()):
            for name in self._nodes_of(claim):
                claims.setdefault(name, []).append(claim)
        names = (pods.keys() | claims.keys()) & self.nodes.keys()
        if not names:
            return self
        credited = {name: self.holdings[name].without(pods.get(name, ()), claims.get(name, ())) for name in names}
        recounted = {name: offers_of(self.nodes[name], holding) for name, holding in credited.items()}
        offers: list[GpuOffer] = []
        for offer in self.offers:
            name = offer.node.name
            if offer.declared or name not in names:
                offers.append(offer)
            else:
                offers.extend(recounted.pop(name, ()))
        return replace(self, offers=tuple(offers), holdings={**self.holdings, **credited})

    def _nodes_of(self, claim: ClaimRecord) -> set[str]:
        pools = {(driver, pool) for driver, pool, _ in claim.devices}
        return {
            name
            for name, holding in self.holdings.items()
            if any((record.driver, record.pool) in pools for record in holding.slices)
        }


def offers_of(node: NodeRecord, holding: Holding) -> tuple[GpuOffer, ...]:
    """Return what one node offers while `holding` is on it."""
    published = dra_offers(holding.slices, holding.taken) if holding.slices else ()
    if not node.gpus and not published:
        return ()
    by_plugin = _plugin_offers(node, holding, published)
    plugin_vendors = {offer.gpu_class.vendor for offer in by_plugin}
    by_claim = tuple(
        _offer(
            node,
            holding,
            gpu_class=offer.gpu_class,
            capacity=offer.capacity,
            allocatable=offer.allocatable,
            free=offer.free,
            usable=_in_service(node) and offer.allocatable > 0,
            warnings=tuple(f"node {node.name}: {warning}" for warning in offer.warnings),
        )
        for offer in published
        if offer.gpu_class.vendor not in plugin_vendors
    )
    return by_plugin + by_claim


def _plugin_offers(node: NodeRecord, holding: Holding, published: tuple[DraOffer, ...]) -> tuple[GpuOffer, ...]:
    """Return what device plugins offer.

    While a cluster moves to dynamic resource allocation, the same cards may be offered in both ways. They count once:
    by the plugin as long as it has any to give, then by their slices.
    """
    offers = []
    for gpus in node.gpus:
        gpu_class = gpus.gpu_class
        twice = [offer for offer in published if offer.gpu_class.vendor == gpu_class.vendor]
        if twice and not gpus.allocatable:
            continue
        claimed = sum(offer.allocatable - offer.free for offer in twice)
        warnings = gpus.warnings
        if twice:
            warnings += (
                f"node {node.name}: {gpu_class.resource_name} and {twice[0].gpu_class.resource_name} offer the "
                "same devices; they count once",
            )
        offers.append(
            _offer(
                node,
                holding,
                gpu_class=gpu_class,
                capacity=gpus.capacity,
                allocatable=gpus.allocatable,
                free=max(0, gpus.allocatable - holding.requests.get(gpu_class.resource_name, 0) - claimed),
                usable=_in_service(node) and gpus.healthy and gpus.allocatable > 0,
                healthy=gpus.healthy,
                memory_in_use_bytes=gpus.memory_in_use_bytes,
                warnings=warnings,
            )
        )
    return tuple(offers)


def _offer(
    node: NodeRecord,
    holding: Holding,
    *,
    gpu_class: GpuClass,
    capacity: int,
    allocatable: int,
    free: int,
    usable: bool,
    warnings: tuple[str, ...],
    memory_in_use_bytes: int | None = None,
    healthy: bool = True,
) -> GpuOffer:
    held = holding.requests
    return GpuOffer(
        node=node,
        gpu_class=gpu_class,
        capacity=capacity,
        allocatable=allocatable,
        free=free,
        usable=usable,
        memory_in_use_bytes=memory_in_use_bytes,
        healthy=healthy,
        free_cpu_millis=_left(node.allocatable_cpu_millis, held.get("cpu", 0)),
        free_memory_bytes=_left(node.allocatable_memory_bytes, held.get("memory", 0)),
        free_pods=_left(node.allocatable_pods, held.get(PODS, 0)),
        warnings=warnings,
    )


def _in_service(node: NodeRecord) -> bool:
    return node.ready and node.schedulable


def _left(allocatable: int | None, held: int) -> int | None:
    return None if allocatable is None else max(0, allocatable - held)
