"""A dump (`kubectl get nodes,pods -o yaml`) to an inventory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vllm_operator.cluster import reading
from vllm_operator.cluster.inventory import Inventory
from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def read_inventory(documents: Iterable[Mapping[str, Any]]) -> Inventory:
    """Return the inventory of the objects in some documents; Lists are opened, other kinds are left out."""
    objects = [obj for document in documents for obj in each_object(document)]
    nodes = [project_node(obj) for obj in objects if obj.get("kind") == "Node"]
    pods = [project_pod(obj) for obj in objects if obj.get("kind") == "Pod"]
    return Inventory.build(nodes, [pod for pod in pods if pod is not None])


def each_object(document: object) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a document: itself, or what its List holds, in whatever depth."""
    if not isinstance(document, Mapping):
        return
    kind = reading.text(document.get("kind")) or ""
    if kind.endswith("List") and "items" in document:
        for item in reading.items_at(document, "items"):
            yield from each_object(item if "kind" in item else {**item, "kind": kind.removesuffix("List")})
    else:
        yield document
