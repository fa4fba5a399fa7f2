"""A dump (`kubectl get nodes,pods -o yaml`) to an inventory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vllm_operator.cluster import reading
from vllm_operator.cluster.declared import project_flavors, project_node_claim, project_node_pool
from vllm_operator.cluster.dra import project_claim, project_slice
from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.cluster.state import ClusterState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.cluster.records import NodeRecord

    Record = TypeVar("Record")

SAY_WHAT_THERE_IS = frozenset({"Node", "ResourceSlice", "NodePool", "NodeClaim", "ResourceFlavor"})
"""Kinds that offer GPUs, present or to come; a dump without any of them says nothing about a cluster."""
_KINDS = SAY_WHAT_THERE_IS | {"Pod", "ResourceClaim", "ClusterQueue"}


def read_inventory(documents: Iterable[Mapping[str, Any]]) -> Inventory:
    """Return the inventory of the objects in some documents; Lists are opened, other kinds are left out."""
    objects: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in _KINDS}
    for document in documents:
        for obj in each_object(document):
            kind = obj.get("kind")
            if isinstance(kind, str) and kind in objects:
                objects[kind].append(obj)
    state = ClusterState()
    slices = list(_projected(project_slice, objects["ResourceSlice"]))
    nodes = [project_node(obj) for obj in objects["Node"]]
    state.replace_nodes(nodes or [_bare_node(record.node_name) for record in slices])
    state.replace_pods(_projected(project_pod, objects["Pod"]))
    state.replace_slices(slices)
    state.replace_claims(_projected(project_claim, objects["ResourceClaim"]))
    state.replace_declarations(
        [
            *_projected(project_node_pool, objects["NodePool"]),
            *_projected(project_node_claim, objects["NodeClaim"]),
            *project_flavors(objects["ResourceFlavor"], objects["ClusterQueue"]),
        ]
    )
    return state.snapshot()


def each_object(document: object) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a document: itself, or what its List holds, in whatever depth."""
    waiting = [document]
    while waiting:
        obj = waiting.pop()
        if not isinstance(obj, Mapping):
            continue
        kind = reading.text(obj.get("kind")) or ""
        if not kind.endswith("List") or "items" not in obj:
            yield obj
            continue
        of_kind = kind.removesuffix("List")
        items = reading.items_at(obj, "items")
        waiting.extend(item if "kind" in item else {**item, "kind": of_kind} for item in reversed(items))


def _bare_node(name: str) -> NodeRecord:
    """Return the node of a slice in a dump of slices alone; beside other nodes, one that is missing is gone."""
    return project_node({"metadata": {"name": name}})


def _projected(
    project: Callable[[Mapping[str, Any]], Record | None], objects: Iterable[Mapping[str, Any]]
) -> Iterator[Record]:
    for obj in objects:
        record = project(obj)
        if record is not None:
            yield record
