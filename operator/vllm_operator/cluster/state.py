"""The cluster as its watches tell it, kept so that one event costs one node's arithmetic."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
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

PoolKey = tuple[str, str]
"""Driver and pool."""

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
        self._requests_in: dict[str, Counter[str]] = {}
        self._taken: dict[PoolKey, Counter[DeviceKey]] = {}
        self._nodes_of_pool: dict[PoolKey, Counter[str]] = {}
        self._slices_of_node: dict[str, tuple[SliceRecord, ...]] = {}
        self._owned_pods: dict[str, tuple[PodRecord, ...]] = {}
        self._owned_claims: dict[str, tuple[ClaimRecord, ...]] = {}
        self._relevant: dict[str, NodeRecord] = {}
        self._offers: dict[str, tuple[GpuOffer, ...]] = {}
        self._holdings: dict[str, Holding] = {}
        self._order: list[str] = []
        self._flat: list[GpuOffer] = []
        self._starts: dict[str, int] | None = None
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
        listed = {node.name: node for node in nodes}
        touched = {name for name, node in self._nodes.items() if listed.get(name) != node}
        touched |= {name for name, node in listed.items() if self._nodes.get(name) != node}
        self._nodes = listed
        return self._recounted(touched)

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
        listed = {pod.uid: pod for pod in pods}
        gone = [pod for uid, pod in self._pods.items() if listed.get(uid) != pod]
        new = [pod for uid, pod in listed.items() if self._pods.get(uid) != pod]
        for pod in gone:
            self._release_pod(pod)
        for pod in new:
            self._hold_pod(pod)
        return self._recounted({pod.node_name for pod in (*gone, *new)}, *gone, *new)

    def upsert_slice(self, record: SliceRecord) -> bool:
        """Take a ResourceSlice's newest record."""
        return self._recounted(self._take_slice(record))

    def remove_slice(self, name: str) -> bool:
        """Forget a ResourceSlice."""
        known = self._slices.get(name)
        return False if known is None else self._recounted({self._drop_slice(known)})

    def replace_slices(self, slices: Iterable[SliceRecord]) -> bool:
        """Take an authoritative list of all slices."""
        listed = {record.name: record for record in slices}
        gone = [record for name, record in self._slices.items() if name not in listed]
        touched: set[str | None] = {self._drop_slice(record) for record in gone}
        for record in listed.values():
            touched |= self._take_slice(record)
        return self._recounted(touched)

    def upsert_claim(self, claim: ClaimRecord) -> bool:
        """Take a ResourceClaim's newest record."""
        known = self._claims.get(claim.uid)
        return self._recounted(self._take_claim(claim), known, claim) if known != claim else False

    def remove_claim(self, uid: str) -> bool:
        """Forget a claim that was released or deleted."""
        known = self._claims.get(uid)
        return False if known is None else self._recounted(self._release_claim(known), known)

    def replace_claims(self, claims: Iterable[ClaimRecord]) -> bool:
        """Take an authoritative list of all claims with devices."""
        listed = {claim.uid: claim for claim in claims}
        gone = [claim for uid, claim in self._claims.items() if uid not in listed]
        new = [claim for uid, claim in listed.items() if self._claims.get(uid) != claim]
        replaced = [self._claims[claim.uid] for claim in new if claim.uid in self._claims]
        touched: set[str | None] = set()
        for claim in gone:
            touched |= self._release_claim(claim)
        for claim in new:
            touched |= self._take_claim(claim)
        return self._recounted(touched, *gone, *replaced, *new)

    def replace_declarations(self, declarations: Iterable[Declaration]) -> bool:
        """Take everything that autoscalers and quotas declare."""
        declared = tuple(declarations)
        if declared == self._declarations:
            return False
        self._declarations = declared
        return self._changed()

    def offers_on(self, name: str) -> tuple[GpuOffer, ...]:
        """Return what one node offers at this moment; nothing where it is not known, or has no GPUs."""
        return self._offers.get(name, ()) if name in self._relevant else ()

    def requested_by_others(self, owner: str) -> Mapping[str, int]:
        """Return what the pods of a VLLMDeployment's namespace ask for without its own, and how many they are."""
        held = Counter(self._requests_in.get(owner.partition("/")[0], _NOTHING))
        for pod in self._owned_pods.get(owner, ()):
            held.subtract(pod.requests)
            held[PODS] -= 1
        return held

    def snapshot(self) -> Inventory:
        """Return the inventory at this moment; the same object until something changes."""
        if self._snapshot is None:
            existing = self._existing_offers()
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
        in_namespace = self._requests_in.setdefault(pod.namespace, Counter())
        in_namespace.update(pod.requests)
        in_namespace[PODS] += 1
        if pod.node_name is not None:
            held = self._requests.setdefault(pod.node_name, Counter())
            held.update(pod.requests)
            held[PODS] += 1
        if pod.owner is not None:
            self._owned_pods[pod.owner] = (*self._owned_pods.get(pod.owner, ()), pod)

    def _release_pod(self, pod: PodRecord) -> None:
        del self._pods[pod.uid]
        in_namespace = self._requests_in[pod.namespace]
        in_namespace.subtract(pod.requests)
        in_namespace[PODS] -= 1
        if not in_namespace[PODS]:
            del self._requests_in[pod.namespace]
        if pod.node_name is not None:
            held = self._requests[pod.node_name]
            held.subtract(pod.requests)
            held[PODS] -= 1
            if not held[PODS]:
                del self._requests[pod.node_name]
        if pod.owner is not None:
            _discard(self._owned_pods, pod.owner, pod)

    def _take_claim(self, claim: ClaimRecord) -> set[str | None]:
        known = self._claims.get(claim.uid)
        touched = self._release_claim(known) if known is not None else set()
        self._claims[claim.uid] = claim
        for device in claim.devices:
            self._taken.setdefault(device[:2], Counter())[device] += 1
        if claim.owner is not None:
            self._owned_claims[claim.owner] = (*self._owned_claims.get(claim.owner, ()), claim)
        return touched | self._nodes_of(claim)

    def _release_claim(self, claim: ClaimRecord) -> set[str | None]:
        del self._claims[claim.uid]
        for device in claim.devices:
            taken = self._taken[device[:2]]
            taken[device] -= 1
            if not taken[device]:
                del taken[device]
            if not taken:
                del self._taken[device[:2]]
        if claim.owner is not None:
            _discard(self._owned_claims, claim.owner, claim)
        return self._nodes_of(claim)

    def _take_slice(self, record: SliceRecord) -> set[str | None]:
        known = self._slices.get(record.name)
        if known == record:
            return set()
        touched: set[str | None] = {record.node_name}
        if known is not None:
            touched.add(self._drop_slice(known))
        self._slices[record.name] = record
        self._slices_of_node[record.node_name] = (*self._slices_of_node.get(record.node_name, ()), record)
        self._nodes_of_pool.setdefault((record.driver, record.pool), Counter())[record.node_name] += 1
        return touched

    def _drop_slice(self, record: SliceRecord) -> str:
        del self._slices[record.name]
        _discard(self._slices_of_node, record.node_name, record)
        nodes = self._nodes_of_pool[record.driver, record.pool]
        nodes[record.node_name] -= 1
        if not nodes[record.node_name]:
            del nodes[record.node_name]
        if not nodes:
            del self._nodes_of_pool[record.driver, record.pool]
        return record.node_name

    def _nodes_of(self, claim: ClaimRecord) -> set[str | None]:
        return {name for device in claim.devices for name in self._nodes_of_pool.get(device[:2], ())}

    def _recounted(self, names: set[str | None] | set[str], *holders: PodRecord | ClaimRecord | None) -> bool:
        changed = [self._recount(name) for name in names if name is not None]
        owned = any(holder is not None and holder.owner is not None for holder in holders)
        return self._changed() if any(changed) or owned else False

    def _recount(self, name: str) -> bool:
        """Bring one node's offers up to date; says whether they, or what is to be said about the node, changed.

        Nodes without GPUs are many and of no interest: their labels may change without a plan changing.
        """
        node = self._nodes.get(name)
        holding = self._holding(name) if node is not None else EMPTY
        if node is None or not (node.gpus or holding.slices or node.warnings):
            return self._forget(name)
        offers = offers_of(node, holding)
        known = self._relevant.get(name)
        if known is None:
            insort(self._order, name)
        changed = known != node or offers != self._offers[name] or holding != self._holdings[name]
        self._place(name, offers)
        self._relevant[name] = node
        self._holdings[name] = holding
        return changed

    def _place(self, name: str, offers: tuple[GpuOffer, ...]) -> None:
        """Put a node's offers in the list of all where its former ones were, or have the list made anew."""
        former = self._offers.get(name)
        self._offers[name] = offers
        if self._starts is None or former is None or len(former) != len(offers):
            self._starts = None
        else:
            start = self._starts[name]
            self._flat[start : start + len(offers)] = offers

    def _existing_offers(self) -> tuple[GpuOffer, ...]:
        if self._starts is None:
            self._starts = {}
            self._flat = []
            for name in self._order:
                self._starts[name] = len(self._flat)
                self._flat.extend(self._offers[name])
        return tuple(self._flat)

    def _forget(self, name: str) -> bool:
        """Drop what is kept of a node that has nothing a plan could read (any more)."""
        if name not in self._relevant:
            return False
        del self._relevant[name], self._offers[name], self._holdings[name]
        del self._order[bisect_left(self._order, name)]
        self._starts = None
        return True

    def _holding(self, name: str) -> Holding:
        slices = tuple(sorted(self._slices_of_node.get(name, ()), key=attrgetter("name")))
        taken: dict[DeviceKey, int] = {}
        for pool in {(record.driver, record.pool) for record in slices}:
            taken.update(self._taken.get(pool, {}))
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
