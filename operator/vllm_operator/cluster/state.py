"""The cluster as its watches tell it, kept so that one event costs one node's arithmetic."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeVar

from vllm_operator.cluster.declared import declared_offers
from vllm_operator.cluster.inventory import EMPTY, PODS, Holding, Inventory, offers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.cluster.declared import Declaration
    from vllm_operator.cluster.dra import ClaimRecord, DeviceKey, SliceRecord
    from vllm_operator.cluster.records import GpuOffer, NodeRecord, PodRecord

Record = TypeVar("Record")

_NOTHING: Final[Mapping[str, int]] = {}


class ClusterState:
    """Mutable counterpart of `Inventory`; each method says whether anything that a plan reads has changed.

    Not thread-safe: it belongs to one event loop. The order of events does not matter: a pod may come before its
    node, a claim before the slice with its device, and a node that comes back finds what was on it.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, NodeRecord] = {}
        self._pods: dict[str, PodRecord] = {}
        self._claims: dict[str, ClaimRecord] = {}
        self._slices: dict[str, SliceRecord] = {}
        self._requests: dict[str, Counter[str]] = {}
        self._taken: Counter[DeviceKey] = Counter()
        self._slices_of_node: dict[str, tuple[SliceRecord, ...]] = {}
        self._owned_pods: dict[str, tuple[PodRecord, ...]] = {}
        self._owned_claims: dict[str, tuple[ClaimRecord, ...]] = {}
        self._relevant: dict[str, NodeRecord] = {}
        self._offers: dict[str, tuple[GpuOffer, ...]] = {}
        self._holdings: dict[str, Holding] = {}
        self._order: list[str] = []
        self._declarations: tuple[Declaration, ...] = ()
        self._version = 0
        self._snapshot: Inventory | None = None

    def upsert_node(self, node: NodeRecord) -> bool:
        """Take a node's newest record."""
        if self._nodes.get(node.name) == node:
            return False
        self._nodes[node.name] = node
        return self._recounted({node.name})

    def remove_node(self, name: str) -> bool:
        """Forget a node; the pods bound to it stay known until they go themselves."""
        if self._nodes.pop(name, None) is None:
            return False
        return self._recounted({name})

    def replace_nodes(self, nodes: Iterable[NodeRecord]) -> bool:
        """Take an authoritative list of all nodes."""
        before = self._version
        listed = {node.name: node for node in nodes}
        for name in self._nodes.keys() - listed.keys():
            self.remove_node(name)
        for node in listed.values():
            self.upsert_node(node)
        return self._version != before

    def upsert_pod(self, pod: PodRecord) -> bool:
        """Take a pod's newest record."""
        known = self._pods.get(pod.uid)
        if known == pod:
            return False
        if known is not None:
            self._release_pod(known)
        self._hold_pod(pod)
        return self._recounted({pod.node_name, known.node_name if known else None}, known, pod)

    def remove_pod(self, uid: str) -> bool:
        """Forget a pod that ended or was deleted."""
        known = self._pods.get(uid)
        if known is None:
            return False
        self._release_pod(known)
        return self._recounted({known.node_name}, known)

    def replace_pods(self, pods: Iterable[PodRecord]) -> bool:
        """Take an authoritative list of all pods that hold something."""
        before = self._version
        listed = {pod.uid: pod for pod in pods}
        for uid in self._pods.keys() - listed.keys():
            self.remove_pod(uid)
        touched: set[str | None] = set()
        owned = False
        for pod in listed.values():
            known = self._pods.get(pod.uid)
            if known == pod:
                continue
            if known is not None:
                self._release_pod(known)
                touched.add(known.node_name)
            self._hold_pod(pod)
            touched.add(pod.node_name)
            owned = owned or pod.owner is not None or (known is not None and known.owner is not None)
        recounted = [self._recount(name) for name in touched if name is not None]
        if any(recounted) or owned:
            self._changed()
        return self._version != before

    def upsert_slice(self, record: SliceRecord) -> bool:
        """Take a ResourceSlice's newest record."""
        known = self._slices.get(record.name)
        if known == record:
            return False
        if known is not None:
            self._drop_slice(known)
        self._slices[record.name] = record
        self._slices_of_node[record.node_name] = (*self._slices_of_node.get(record.node_name, ()), record)
        return self._recounted({record.node_name, known.node_name if known else None})

    def remove_slice(self, name: str) -> bool:
        """Forget a ResourceSlice."""
        known = self._slices.get(name)
        if known is None:
            return False
        self._drop_slice(known)
        return self._recounted({known.node_name})

    def replace_slices(self, slices: Iterable[SliceRecord]) -> bool:
        """Take an authoritative list of all slices."""
        before = self._version
        listed = {record.name: record for record in slices}
        for name in self._slices.keys() - listed.keys():
            self.remove_slice(name)
        for record in listed.values():
            self.upsert_slice(record)
        return self._version != before

    def upsert_claim(self, claim: ClaimRecord) -> bool:
        """Take a ResourceClaim's newest record."""
        known = self._claims.get(claim.uid)
        if known == claim:
            return False
        if known is not None:
            self._release_claim(known)
        self._claims[claim.uid] = claim
        self._taken.update(claim.devices)
        if claim.owner is not None:
            self._owned_claims[claim.owner] = (*self._owned_claims.get(claim.owner, ()), claim)
        return self._recounted(self._nodes_of(claim) | (self._nodes_of(known) if known else set()), known, claim)

    def remove_claim(self, uid: str) -> bool:
        """Forget a claim that was released or deleted."""
        known = self._claims.get(uid)
        if known is None:
            return False
        self._release_claim(known)
        return self._recounted(self._nodes_of(known), known)

    def replace_claims(self, claims: Iterable[ClaimRecord]) -> bool:
        """Take an authoritative list of all claims with devices."""
        before = self._version
        listed = {claim.uid: claim for claim in claims}
        for uid in self._claims.keys() - listed.keys():
            self.remove_claim(uid)
        for claim in listed.values():
            self.upsert_claim(claim)
        return self._version != before

    def replace_declarations(self, declarations: Iterable[Declaration]) -> bool:
        """Take everything that autoscalers and quotas declare."""
        declared = tuple(declarations)
        if declared == self._declarations:
            return False
        self._declarations = declared
        return self._changed()

    def snapshot(self) -> Inventory:
        """Return the inventory at this moment; the same object until something changes."""
        if self._snapshot is None:
            existing = tuple(chain.from_iterable(map(self._offers.__getitem__, self._order)))
            declared = declared_offers(self._declarations, existing) if self._declarations else ()
            self._snapshot = Inventory(
                version=self._version,
                offers=existing + declared,
                nodes=self._relevant.copy(),
                holdings=self._holdings.copy(),
                owned_pods=self._owned_pods.copy(),
                owned_claims=self._owned_claims.copy(),
            )
        return self._snapshot

    def _hold_pod(self, pod: PodRecord) -> None:
        self._pods[pod.uid] = pod
        if pod.node_name is not None:
            held = self._requests.setdefault(pod.node_name, Counter())
            held.update(pod.requests)
            held[PODS] += 1
        if pod.owner is not None:
            self._owned_pods[pod.owner] = (*self._owned_pods.get(pod.owner, ()), pod)

    def _release_pod(self, pod: PodRecord) -> None:
        del self._pods[pod.uid]
        if pod.node_name is not None:
            held = self._requests[pod.node_name]
            held.subtract(pod.requests)
            held[PODS] -= 1
            if not held[PODS]:
                del self._requests[pod.node_name]
        if pod.owner is not None:
            _discard(self._owned_pods, pod.owner, pod)

    def _release_claim(self, claim: ClaimRecord) -> None:
        del self._claims[claim.uid]
        self._taken.subtract(claim.devices)
        for device in claim.devices:
            if not self._taken[device]:
                del self._taken[device]
        if claim.owner is not None:
            _discard(self._owned_claims, claim.owner, claim)

    def _drop_slice(self, record: SliceRecord) -> None:
        del self._slices[record.name]
        _discard(self._slices_of_node, record.node_name, record)

    def _nodes_of(self, claim: ClaimRecord) -> set[str | None]:
        pools = {(driver, pool) for driver, pool, _ in claim.devices}
        return {record.node_name for record in self._slices.values() if (record.driver, record.pool) in pools}

    def _recounted(self, names: set[str | None], *holders: PodRecord | ClaimRecord | None) -> bool:
        changed = [self._recount(name) for name in names if name is not None]
        owned = any(holder is not None and holder.owner is not None for holder in holders)
        return self._changed() if any(changed) or owned else False

    def _recount(self, name: str) -> bool:
        """Bring one node's offers up to date; says whether they, or what is to be said about the node, changed.

        Nodes without GPUs are many and of no interest: their labels may change without a plan changing.
        """
        node = self._nodes.get(name)
        holding = self._holding(name) if node is not None else EMPTY
        offers = offers_of(node, holding) if node is not None else ()
        known = self._relevant.get(name)
        changed = (
            offers != self._offers.get(name, ())
            or (node.warnings if node else ()) != (known.warnings if known else ())
            or (node is not None and holding != self._holdings.get(name, EMPTY) and self._matters(node, holding))
        )
        if node is not None and (self._matters(node, holding) or node.warnings):
            if name not in self._relevant:
                insort(self._order, name)
            self._relevant[name] = node
            self._offers[name] = offers
            self._holdings[name] = holding
        elif name in self._relevant:
            del self._relevant[name], self._offers[name], self._holdings[name]
            del self._order[bisect_left(self._order, name)]
        return changed

    @staticmethod
    def _matters(node: NodeRecord, holding: Holding) -> bool:
        """Whether a plan could read what is held on a node: it has accelerators, or devices that are still coming."""
        return bool(node.gpus or holding.slices)

    def _holding(self, name: str) -> Holding:
        slices = tuple(sorted(self._slices_of_node.get(name, ()), key=attrgetter("name")))
        pools = {(record.driver, record.pool) for record in slices}
        taken = {key: number for key, number in self._taken.items() if key[:2] in pools} if pools else {}
        requests = self._requests.get(name, _NOTHING)
        return Holding(requests={key: number for key, number in requests.items() if number}, slices=slices, taken=taken)

    def _changed(self) -> bool:
        self._version += 1
        self._snapshot = None
        return True


def _discard(groups: dict[str, tuple[Record, ...]], group: str, gone: Record) -> None:
    left = tuple(record for record in groups[group] if record is not gone)
    if left:
        groups[group] = left
    else:
        del groups[group]
