"""The cluster as its watches tell it, kept so that one event costs one node's arithmetic."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from typing import TYPE_CHECKING

from vllm_operator.cluster.inventory import Inventory, offers_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.cluster.inventory import Held
    from vllm_operator.cluster.records import GpuOffer, NodeRecord, PodRecord

NOTHING_HELD: Held = {}


class ClusterState:
    """Mutable counterpart of `Inventory`; each method says whether anything that a plan reads has changed.

    Not thread-safe: it belongs to one event loop. The order of events does not matter: a pod may come before its
    node, and a node that comes back finds its pods.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, NodeRecord] = {}
        self._pods: dict[str, PodRecord] = {}
        self._held: dict[str, Counter[str]] = {}
        self._owned: dict[str, dict[str, PodRecord]] = {}
        self._offers: dict[str, tuple[GpuOffer, ...]] = {}
        self._offering: list[str] = []
        self._declared: tuple[GpuOffer, ...] = ()
        self._version = 0
        self._snapshot: Inventory | None = None

    def upsert_node(self, node: NodeRecord) -> bool:
        """Take a node's newest record."""
        if self._nodes.get(node.name) == node:
            return False
        self._nodes[node.name] = node
        self._recount(node.name)
        return self._changed()

    def remove_node(self, name: str) -> bool:
        """Forget a node; the pods bound to it stay known until they go themselves."""
        if self._nodes.pop(name, None) is None:
            return False
        self._recount(name)
        return self._changed()

    def upsert_pod(self, pod: PodRecord) -> bool:
        """Take a pod's newest record."""
        known = self._pods.get(pod.uid)
        if known == pod:
            return False
        if known is not None:
            self._release(known)
        self._hold(pod)
        return self._recount_for(known, pod)

    def remove_pod(self, uid: str) -> bool:
        """Forget a pod that ended or was deleted."""
        known = self._pods.get(uid)
        if known is None:
            return False
        self._release(known)
        return self._recount_for(known)

    def replace_nodes(self, nodes: Iterable[NodeRecord]) -> bool:
        """Take an authoritative list of all nodes."""
        listed = {node.name: node for node in nodes}
        gone = [self.remove_node(name) for name in self._nodes.keys() - listed.keys()]
        return any([*gone, *[self.upsert_node(node) for node in listed.values()]])

    def replace_pods(self, pods: Iterable[PodRecord]) -> bool:
        """Take an authoritative list of all pods that hold something."""
        before = self._version
        listed = {pod.uid: pod for pod in pods}
        for uid in self._pods.keys() - listed.keys():
            self.remove_pod(uid)
        for pod in listed.values():
            self.upsert_pod(pod)
        return self._version != before

    def replace_declared(self, offers: Iterable[GpuOffer]) -> bool:
        """Take all capacity that autoscalers could add."""
        declared = tuple(offers)
        if declared == self._declared:
            return False
        self._declared = declared
        return self._changed()

    def snapshot(self) -> Inventory:
        """Return the inventory at this moment; the same object until something changes."""
        if self._snapshot is None:
            offers = [offer for name in self._offering for offer in self._offers[name]]
            self._snapshot = Inventory(
                version=self._version,
                offers=(*offers, *self._declared),
                nodes=dict(self._nodes),
                held={name: self._held.get(name, NOTHING_HELD) for name in self._offering},
                owned={owner: tuple(pods.values()) for owner, pods in self._owned.items()},
            )
        return self._snapshot

    def _hold(self, pod: PodRecord) -> None:
        self._pods[pod.uid] = pod
        if pod.node_name is not None:
            held = Counter(self._held.get(pod.node_name, NOTHING_HELD))
            held.update(pod.requests)
            held["pods"] += 1
            self._held[pod.node_name] = held
        if pod.owner is not None:
            self._owned.setdefault(pod.owner, {})[pod.uid] = pod

    def _release(self, pod: PodRecord) -> None:
        del self._pods[pod.uid]
        if pod.node_name is not None:
            held = Counter(self._held[pod.node_name])
            held.subtract(pod.requests)
            held["pods"] -= 1
            left = Counter({resource: number for resource, number in held.items() if number > 0})
            if left:
                self._held[pod.node_name] = left
            else:
                del self._held[pod.node_name]
        if pod.owner is not None:
            pods = self._owned[pod.owner]
            del pods[pod.uid]
            if not pods:
                del self._owned[pod.owner]

    def _recount_for(self, *pods: PodRecord | None) -> bool:
        names = {pod.node_name for pod in pods if pod is not None and pod.node_name is not None}
        changed = [self._recount(name) for name in names]
        owners = any(pod is not None and pod.owner is not None for pod in pods)
        return self._changed() if any(changed) or owners else False

    def _recount(self, name: str) -> bool:
        node = self._nodes.get(name)
        offers = () if node is None else offers_of(node, self._held.get(name, NOTHING_HELD))
        if offers == self._offers.get(name, ()):
            return False
        if offers:
            if name not in self._offers:
                insort(self._offering, name)
            self._offers[name] = offers
        else:
            del self._offers[name]
            del self._offering[bisect_left(self._offering, name)]
        return True

    def _changed(self) -> bool:
        self._version += 1
        self._snapshot = None
        return True
