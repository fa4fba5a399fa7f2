"""Capacity that not every cluster has an API for: devices of DRA drivers, Karpenter's pools, Kueue's quotas.

Each kind is watched where its API exists (runtime/optional_watch.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster.declared import project_flavors, project_node_claim, project_node_pool
from vllm_operator.cluster.dra import project_claim, project_slice
from vllm_operator.runtime.kube import Resource
from vllm_operator.runtime.optional_watch import OptionalWatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.cluster.declared import Declaration
    from vllm_operator.cluster.dra import ClaimRecord
    from vllm_operator.cluster.state import ClusterState
    from vllm_operator.runtime.kube import Kube
    from vllm_operator.runtime.watch import Sink

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """One kind and the versions in which it may be served, the newest first."""

    versions: tuple[Resource, ...]


def _source(group: str, kind: str, plural: str, *versions: str, namespaced: bool = False) -> Source:
    return Source(tuple(Resource(f"{group}/{version}", kind, plural, namespaced) for version in versions))


SLICES: Final = _source("resource.k8s.io", "ResourceSlice", "resourceslices", "v1", "v1beta2", "v1beta1")
CLAIMS: Final = _source(
    "resource.k8s.io", "ResourceClaim", "resourceclaims", "v1", "v1beta2", "v1beta1", namespaced=True
)
NODE_POOLS: Final = _source("karpenter.sh", "NodePool", "nodepools", "v1", "v1beta1")
NODE_CLAIMS: Final = _source("karpenter.sh", "NodeClaim", "nodeclaims", "v1", "v1beta1")
FLAVORS: Final = _source("kueue.x-k8s.io", "ResourceFlavor", "resourceflavors", "v1beta2", "v1beta1")
QUEUES: Final = _source("kueue.x-k8s.io", "ClusterQueue", "clusterqueues", "v1beta2", "v1beta1")

SOURCES: Final = (SLICES, CLAIMS, NODE_POOLS, NODE_CLAIMS, FLAVORS, QUEUES)


def optional_watchers(
    kube: Kube,
    cluster: ClusterState,
    changed: Callable[[], None],
    *,
    owner_of_pod: Callable[[str], str | None],
    resync_seconds: float,
    jitter: Callable[[], float],
) -> list[OptionalWatcher]:
    """Return a watcher for each source, all of them feeding one inventory."""
    declarations = Declarations(cluster, changed)
    sinks: dict[Source, Sink] = {SLICES: SliceFeed(cluster, changed), CLAIMS: ClaimFeed(cluster, changed, owner_of_pod)}
    return [
        OptionalWatcher(
            kube,
            source.versions[0],
            sinks.get(source) or DeclarationFeed(declarations, source),
            resync_seconds=resync_seconds,
            jitter=jitter,
            versions=source.versions,
        )
        for source in SOURCES
    ]


@dataclass
class SliceFeed:
    """Published devices into the inventory; drivers of other things than GPUs are left out."""

    cluster: ClusterState
    changed: Callable[[], None]

    def replace(self, objects: list[Manifest], version: int | None) -> None:
        """Take an authoritative list."""
        records = [record for obj in objects if (record := project_slice(obj)) is not None]
        if self.cluster.replace_slices(records):
            self.changed()

    def upsert(self, obj: Manifest) -> None:
        """Take one that was added or changed."""
        record = project_slice(obj)
        if record is None:
            self.remove(obj)
        elif self.cluster.upsert_slice(record):
            self.changed()

    def remove(self, obj: Manifest) -> None:
        """Forget one that was deleted."""
        if self.cluster.remove_slice(obj["metadata"]["name"]):
            self.changed()


@dataclass
class ClaimFeed:
    """Allocated devices into the inventory; a claim without an allocation holds none.

    What the scheduler claims for a pod that requests an extended resource has no labels: it is the pod's owner's.
    """

    cluster: ClusterState
    changed: Callable[[], None]
    owner_of_pod: Callable[[str], str | None]

    def replace(self, objects: list[Manifest], version: int | None) -> None:
        """Take an authoritative list."""
        records = [record for obj in objects if (record := self._project(obj)) is not None]
        if self.cluster.replace_claims(records):
            self.changed()

    def upsert(self, obj: Manifest) -> None:
        """Take one that was added or changed."""
        record = self._project(obj)
        if record is None:
            self.remove(obj)
        elif self.cluster.upsert_claim(record):
            self.changed()

    def remove(self, obj: Manifest) -> None:
        """Forget one that was deleted."""
        if self.cluster.remove_claim(obj["metadata"]["uid"]):
            self.changed()

    def _project(self, obj: Manifest) -> ClaimRecord | None:
        record = project_claim(obj)
        if record is None or record.owner is not None:
            return record
        owners = (self.owner_of_pod(uid) for uid in record.pods)
        return replace(record, owner=next((owner for owner in owners if owner is not None), None))


@dataclass
class Declarations:
    """All objects that declare capacity. They are few; the inventory takes them together, for some refer to others."""

    cluster: ClusterState
    changed: Callable[[], None]
    _objects: dict[Source, dict[str, Manifest]] = field(default_factory=dict)

    def objects_of(self, source: Source) -> dict[str, Manifest]:
        """Return what is known of a source, by name."""
        return self._objects.setdefault(source, {})

    def publish(self) -> None:
        """Give the inventory what is declared now."""
        pools = (project_node_pool(obj) for obj in self._in_order(NODE_POOLS))
        claims = (project_node_claim(obj) for obj in self._in_order(NODE_CLAIMS))
        declared: list[Declaration] = [found for found in (*pools, *claims) if found is not None]
        declared += project_flavors(self._in_order(FLAVORS), self._in_order(QUEUES))
        if self.cluster.replace_declarations(declared):
            self.changed()

    def _in_order(self, source: Source) -> list[Mapping[str, Any]]:
        return [obj for _, obj in sorted(self.objects_of(source).items())]


@dataclass
class DeclarationFeed:
    """Objects of one source that declare capacity."""

    declarations: Declarations
    source: Source

    def replace(self, objects: list[Manifest], version: int | None) -> None:
        """Take an authoritative list."""
        known = self.declarations.objects_of(self.source)
        known.clear()
        known.update({obj["metadata"]["name"]: obj for obj in objects})
        self.declarations.publish()

    def upsert(self, obj: Manifest) -> None:
        """Take one that was added or changed."""
        self.declarations.objects_of(self.source)[obj["metadata"]["name"]] = obj
        self.declarations.publish()

    def remove(self, obj: Manifest) -> None:
        """Forget one that was deleted."""
        self.declarations.objects_of(self.source).pop(obj["metadata"]["name"], None)
        self.declarations.publish()
