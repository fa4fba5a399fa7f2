"""What each watch feeds: project, keep, and say whom a change concerns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.runtime.resources import key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.cluster.state import ClusterState
    from vllm_operator.runtime.children import Children
    from vllm_operator.runtime.resources import Resources

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NodeSink:
    """Nodes into the inventory; heartbeats change no record and end here."""

    cluster: ClusterState
    changed: Callable[[], None]

    def replace(self, objects: list[Object]) -> None:
        """See `watch.Sink`."""
        if self.cluster.replace_nodes([project_node(obj) for obj in objects]):
            self.changed()

    def upsert(self, obj: Object) -> None:
        """See `watch.Sink`."""
        if self.cluster.upsert_node(project_node(obj)):
            self.changed()

    def remove(self, obj: Object) -> None:
        """See `watch.Sink`."""
        if self.cluster.remove_node(obj["metadata"]["name"]):
            self.changed()


@dataclass(frozen=True, slots=True)
class PodSink:
    """Pods into the inventory: what they hold."""

    cluster: ClusterState
    changed: Callable[[], None]

    def replace(self, objects: list[Object]) -> None:
        """See `watch.Sink`."""
        records = (project_pod(obj) for obj in objects)
        if self.cluster.replace_pods([record for record in records if record is not None]):
            self.changed()

    def upsert(self, obj: Object) -> None:
        """See `watch.Sink`; a pod that has ended holds nothing any more."""
        record = project_pod(obj)
        uid = obj["metadata"]["uid"]
        if self.cluster.remove_pod(uid) if record is None else self.cluster.upsert_pod(record):
            self.changed()

    def remove(self, obj: Object) -> None:
        """See `watch.Sink`."""
        if self.cluster.remove_pod(obj["metadata"]["uid"]):
            self.changed()


@dataclass(frozen=True, slots=True)
class ChildSink:
    """Our own objects of one kind."""

    kind: str
    children: Children
    requeue: Callable[[str], None]

    def replace(self, objects: list[Object]) -> None:
        """See `watch.Sink`."""
        for owner in self.children.replace(self.kind, objects):
            self.requeue(owner)

    def upsert(self, obj: Object) -> None:
        """See `watch.Sink`."""
        owner = self.children.upsert(obj)
        if owner is not None:
            self.requeue(owner)

    def remove(self, obj: Object) -> None:
        """See `watch.Sink`."""
        owner = self.children.remove(obj)
        if owner is not None:
            self.requeue(owner)


@dataclass(frozen=True, slots=True)
class ResourceSink:
    """VLLMDeployments from the periodic authoritative list and, through Kopf, from its watch."""

    resources: Resources
    requeue: Callable[[str], None]

    def replace(self, objects: list[Object]) -> None:
        """See `watch.Sink`."""
        for key in self.resources.replace(objects):
            self.requeue(key)

    def upsert(self, obj: Object) -> None:
        """See `watch.Sink`."""
        if self.resources.upsert(obj):
            self.requeue(key_of(obj))

    def remove(self, obj: Object) -> None:
        """See `watch.Sink`."""
        if self.resources.remove(obj):
            self.requeue(key_of(obj))
