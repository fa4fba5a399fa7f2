"""Which labels lead the scheduler to the nodes that were planned for, and to no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_operator.cluster.records import GpuOffer, NodeRecord
    from vllm_operator.planning.capacity import Capacity, ClassCapacity

    Terms = tuple[Mapping[str, tuple[str, ...]], ...]

HOSTNAME = "kubernetes.io/hostname"

DISTINGUISHING_LABELS = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "gpu.intel.com/product",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "node.kubernetes.io/instance-type",
    "nvidia.com/gpu.memory",
    "nvidia.com/gpu.sharing-strategy",
    "nvidia.com/gpu.replicas",
)
"""Labels that tell GPU classes apart, the most readable first. Nodes that an autoscaler adds later carry them too."""


def selector_terms(chosen: ClassCapacity, capacity: Capacity) -> Terms:
    """Terms of required node affinity for a class, found once for each snapshot."""
    terms = capacity.terms.get(chosen.gpu_class)
    if terms is None:
        terms = capacity.terms[chosen.gpu_class] = _terms(chosen, capacity)
    return terms


def _terms(chosen: ClassCapacity, capacity: Capacity) -> Terms:
    """Terms of required node affinity (OR-ed) that match the nodes of the chosen class and no node of another class.

    Node names are the last resort: they are certain, but a node that joins later is not among them.
    """
    nodes = [offer.node for offer in chosen.offers if not offer.declared]
    others = [offer.node for offer in _other_offers(chosen, capacity) if not offer.declared]
    if not nodes:
        return _declared_terms(chosen, others)
    label_sets = {_distinguishing(node): None for node in nodes}
    groups = {_fewest(labels, others) for labels in label_sets}
    if () not in groups:
        return tuple({name: (value,) for name, value in group} for group in sorted(groups))
    if not others:
        return ()
    return ({HOSTNAME: tuple(sorted(node.labels.get(HOSTNAME, node.name) for node in nodes))},)


def _declared_terms(chosen: ClassCapacity, others: Sequence[NodeRecord]) -> Terms:
    """Terms for nodes that do not exist yet: the labels that they will bear, where other nodes could be taken for them.

    An autoscaler reads them too, and adds a node of that pool rather than another.
    """
    if not others:
        return ()
    label_sets = (tuple(sorted(offer.node.labels.items())) for offer in chosen.offers)
    return tuple({name: (value,) for name, value in labels} for labels in dict.fromkeys(label_sets) if labels)


def _distinguishing(node: NodeRecord) -> tuple[tuple[str, str], ...]:
    return tuple((name, node.labels[name]) for name in DISTINGUISHING_LABELS if name in node.labels)


def _other_offers(chosen: ClassCapacity, capacity: Capacity) -> Iterator[GpuOffer]:
    """Offers of the same resource that the scheduler could take by mistake."""
    resource = chosen.gpu_class.resource_name
    for other in capacity.classes:
        if other.gpu_class != chosen.gpu_class and other.gpu_class.resource_name == resource:
            yield from other.offers
    for offers in capacity.excluded.values():
        for offer in offers:
            if offer.gpu_class != chosen.gpu_class and offer.gpu_class.resource_name == resource:
                yield offer


def _fewest(labels: Sequence[tuple[str, str]], others: Sequence[NodeRecord]) -> tuple[tuple[str, str], ...]:
    """The first labels that no other node has all of; empty when they all have."""
    for number in range(1, len(labels) + 1):
        wanted = labels[:number]
        if not any(all(node.labels.get(name) == value for name, value in wanted) for node in others):
            return tuple(wanted)
    return ()
