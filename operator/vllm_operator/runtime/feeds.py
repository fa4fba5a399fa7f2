"""From watch events to stores: each sink projects an object, drops what changes nothing, and says who is concerned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.runtime.pods import is_ours

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.cluster.records import NodeRecord, PodRecord
    from vllm_operator.cluster.state import ClusterState
    from vllm_operator.runtime.children import Children, Sight
    from vllm_operator.runtime.observe import Observer
    from vllm_operator.runtime.pods import Pods
    from vllm_operator.runtime.resources import Listed, Resources

Manifest = dict[str, Any]


@dataclass
class NodeFeed:
    """Nodes into the inventory."""

    cluster: ClusterState
    changed: Callable[[], None]

    def replace(self, objects: list[NodeRecord], version: int | None) -> None:
        """Take an authoritative list, of which `project_node` was kept."""
        if self.cluster.replace_nodes(objects):
            self.changed()

    def upsert(self, obj: Manifest) -> None:
        """Take one that was added or changed."""
        if self.cluster.upsert_node(project_node(obj)):
            self.changed()

    def remove(self, obj: Manifest) -> None:
        """Forget one that was deleted."""
        if self.cluster.remove_node(obj["metadata"]["name"]):
            self.changed()


class ListedPod(NamedTuple):
    """What is kept of a pod in a list: there are many, and few are ours."""

    record: PodRecord | None
    """What it holds; None where that is nothing."""
    ours: Manifest | None
    """All of it, if it is of one of our deployments."""


def listed_pod(obj: Manifest) -> ListedPod:
    """Return what is kept of a pod in a list."""
    return ListedPod(project_pod(obj), obj if is_ours(obj) else None)


@dataclass
class PodFeed:
    """Pods into the inventory, and ours into what their user is told."""

    cluster: ClusterState
    pods: Pods
    changed: Callable[[], None]
    queue: Callable[[str], None]
    observer: Observer | None = None
    """Who reads what the servers of our pods report; None where nobody is to."""

    def replace(self, objects: list[ListedPod], version: int | None) -> None:
        """Take an authoritative list, of which `listed_pod` was kept."""
        if self.cluster.replace_pods([pod.record for pod in objects if pod.record is not None]):
            self.changed()
        ours = [pod.ours for pod in objects if pod.ours is not None]
        owners = {owner for obj in ours if (owner := self.pods.upsert(obj)) is not None}
        if self.observer is not None:
            self.observer.replace(ours)
        for owner in owners | self.pods.retain({obj["metadata"]["uid"] for obj in ours}):
            self.queue(owner)

    def upsert(self, obj: Manifest) -> None:
        """Take one that was added or changed."""
        record = project_pod(obj)
        uid = obj["metadata"]["uid"]
        if self.cluster.upsert_pod(record) if record is not None else self.cluster.remove_pod(uid):
            self.changed()
        if self.observer is not None:
            self.observer.upsert(obj)
        if (owner := self.pods.upsert(obj)) is not None:
            self.queue(owner)

    def remove(self, obj: Manifest) -> None:
        """Forget one that was deleted."""
        uid = obj["metadata"]["uid"]
        if self.cluster.remove_pod(uid):
            self.changed()
        if self.observer is not None:
            self.observer.remove(uid)
        if (owner := self.pods.remove(uid)) is not None:
            self.queue(owner)


@dataclass
class ChildFeed:
    """Objects that we made, of one kind in one namespace (None: all)."""

    children: Children
    kind: str
    namespace: str | None
    queue: Callable[[str], None]

    def replace(self, objects: list[Sight], version: int | None) -> None:
        """Take an authoritative list, of which `Children.sight` was kept."""
        for owner in self.children.replace(self.kind, self.namespace, objects, version):
            self.queue(owner)

    def upsert(self, obj: Manifest) -> None:
        """Take one that was added or changed."""
        if (owner := self.children.upsert(obj)) is not None:
            self.queue(owner)

    def remove(self, obj: Manifest) -> None:
        """Forget one that was deleted."""
        if (owner := self.children.remove(obj)) is not None:
            self.queue(owner)


@dataclass
class ResourceFeed:
    """VLLMDeployments of one namespace (None: all), from the periodic lists; their watch is Kopf's."""

    resources: Resources
    namespace: str | None
    queue: Callable[[str], None]

    def replace(self, objects: list[Listed], version: int | None) -> None:
        """Take an authoritative list, of which `Resources.listed` was kept."""
        for key in self.resources.replace(self.namespace, objects, version):
            self.queue(key)
