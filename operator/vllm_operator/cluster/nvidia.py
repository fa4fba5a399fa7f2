"""NVIDIA GPUs behind the device plugin: what the labels say, and what a pod then gets.

The number of devices always comes from the node's allocatable; labels only say of what kind they are. Label semantics:
NVIDIA/k8s-device-plugin `internal/lm/{nvml,resource,mig-strategy,vgpu}.go`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster import labels as label
from vllm_operator.cluster import mig, reading
from vllm_operator.cluster.clouds import NOMINAL_TOLERANCE, CloudGpus, cloud_gpus, device_count
from vllm_operator.cluster.devices import MIB
from vllm_operator.cluster.hami import REGISTER, RegisteredGpu, registered_gpus
from vllm_operator.cluster.memory import UNKNOWN_MEMORY, MemoryFigure, from_product, judge_label
from vllm_operator.cluster.products import UNKNOWN_PRODUCT, ProductMatch, find_product
from vllm_operator.cluster.records import Basis, GpuClass, NodeGpus, Sharing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.resources import NodeContext, Offered

_VGPU_PROFILE: Final = re.compile(r"(?:^|-)GRID-|-[0-9]{1,2}[QCAB]$", re.IGNORECASE)
_INVALID_MIG: Final = "-MIG-INVALID"
_SHARING_WORDS: Final = {
    "none": Sharing.EXCLUSIVE,
    "time-slicing": Sharing.TIME_SLICED,
    "time-sharing": Sharing.TIME_SLICED,
    "mps": Sharing.MPS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """How often one device is handed out; `clients` is None when it is shared and nothing says how often."""

    sharing: Sharing = Sharing.EXCLUSIVE
    clients: int | None = 1


_SHARING_PLUGINS: Final = {
    "k8s.amazonaws.com/vgpu": _Shared(sharing=Sharing.MPS, clients=None),
    "volcano.sh/vgpu-number": _Shared(sharing=Sharing.TIME_SLICED, clients=None),
}
"""Resources of plugins that only ever hand out shares."""


def nvidia_gpus(node: NodeContext, offered: Offered) -> NodeGpus:
    """Return one NVIDIA resource of a node with what is known of the devices behind it."""
    profile = mig.profile_of_resource(offered.resource)
    return _slices(node, offered, profile) if profile is not None else _devices(node, offered)


def _slices(node: NodeContext, offered: Offered, profile: mig.Profile) -> NodeGpus:
    """Read a resource of the MIG strategy `mixed`."""
    prefix = mig.label_prefix(node.labels, profile)
    memory = mig.slice_memory(node.labels, f"{prefix}.memory" if prefix else None, profile)
    product = (node.labels.get(f"{prefix}.product") if prefix else None) or node.labels.get(label.PRODUCT)
    clients = reading.whole_number(node.labels.get(f"{prefix}.replicas")) if prefix else None
    shared = _Shared(sharing=Sharing.MIG)
    if clients is not None and clients > 1:
        shared = _Shared(sharing=Sharing.TIME_SLICED, clients=clients)
    memory, warnings = _share_of(memory, shared)
    return _node_gpus(
        node,
        offered,
        product=product,
        match=find_product(product),
        memory=memory,
        shared=shared,
        profile=profile.name,
        warnings=warnings,
    )


def _devices(node: NodeContext, offered: Offered) -> NodeGpus:
    """Read a resource that counts whole GPUs, shares of them, or slices that pass for GPUs."""
    product = node.labels.get(label.PRODUCT)
    cloud = cloud_gpus(node.labels)
    if product is not None and product.upper().endswith(_INVALID_MIG):
        complaint = f"label {label.PRODUCT}={product!r}: the node's MIG layout is not one the strategy `single` allows"
        return _node_gpus(node, offered, product=product, healthy=False, warnings=(complaint,))
    partition = node.labels.get(label.GKE_PARTITION)
    profile = mig.profile_of_product(product) or (mig.read_profile(partition) if partition else None)
    if profile is not None:
        match = find_product(product) if product else cloud.match
        memory = mig.slice_memory(node.labels, label.MEMORY, profile)
        shared = _sharing(node.labels, product, offered, ())
        memory, warnings = _share_of(memory, shared)
        return _node_gpus(
            node,
            offered,
            product=product or cloud.product,
            match=match,
            memory=memory,
            shared=_Shared(sharing=Sharing.MIG) if shared.sharing is Sharing.EXCLUSIVE else shared,
            profile=profile.name,
            warnings=warnings,
        )
    return _whole_gpus(node, offered, product, cloud)


def _whole_gpus(node: NodeContext, offered: Offered, product: str | None, cloud: CloudGpus) -> NodeGpus:
    cards = registered_gpus(node.annotations)
    virtual = node.labels.get(label.VGPU_PRESENT) == "true" or bool(product and _VGPU_PROFILE.search(product))
    match = UNKNOWN_PRODUCT if virtual else _product_match(product, cards, cloud)
    shared = _sharing(node.labels, product, offered, cards)
    memory = _device_memory(node.labels, match, cards, cloud, virtual=virtual)
    memory, warnings = _share_of(memory, shared)
    if virtual or cloud.partial:
        shared = _Shared(sharing=Sharing.VGPU) if shared.sharing is Sharing.EXCLUSIVE else shared
    name = product or (cards[0].product if cards else None) or cloud.product
    if _is_phantom(node, offered):
        phantom = f"{offered.resource}: the same cards are offered as MIG slices; a pod with a whole one would fail"
        return _node_gpus(
            node,
            offered,
            product=name,
            match=match,
            memory=memory,
            shared=shared,
            healthy=False,
            warnings=(*warnings, phantom),
        )
    if _is_cut_up_unseen(node):
        cut_up = f"label {label.REPLICAS}='0' says that MIG is on, and no slice is offered: what a pod gets is unknown"
        return _node_gpus(node, offered, product=name, match=match, shared=shared, warnings=(*warnings, cut_up))
    uncovered = None if cards else _uncovered(node, offered, shared)
    if uncovered is not None:
        unlike = replace(node, labels={key: node.labels[key] for key in (label.MIG_STATE,) if key in node.labels})
        return _node_gpus(unlike, offered, product=None, shared=shared, warnings=(*warnings, uncovered))
    return _node_gpus(node, offered, product=name, match=match, memory=memory, shared=shared, warnings=warnings)


def _product_match(product: str | None, cards: tuple[RegisteredGpu, ...], cloud: CloudGpus) -> ProductMatch:
    name = product or (cards[0].product if cards else None)
    match = find_product(name)
    if match.known:
        return match.narrowed_by(cloud.match) if cloud.match.known else match
    return cloud.match if name is None else UNKNOWN_PRODUCT


def _device_memory(
    labels: Mapping[str, str],
    match: ProductMatch,
    cards: tuple[RegisteredGpu, ...],
    cloud: CloudGpus,
    *,
    virtual: bool,
) -> MemoryFigure:
    """Return the memory of one whole device: measured label, HAMi's register, the cloud's word, product table."""
    written = labels.get(label.MEMORY)
    figure = UNKNOWN_MEMORY
    if written is not None:
        figure = judge_label(label.MEMORY, written, UNKNOWN_PRODUCT if cloud.partial else match)
        if figure.memory_bytes is not None:
            return figure
    fallback = UNKNOWN_MEMORY
    if cards:
        fallback = _registered_memory(cards, match)
    elif not virtual:
        fallback = cloud.memory if _agrees(cloud, match) else from_product(match)
    return MemoryFigure(
        memory_bytes=fallback.memory_bytes,
        basis=fallback.basis,
        warnings=figure.warnings + fallback.warnings,
    )


def _agrees(cloud: CloudGpus, match: ProductMatch) -> bool:
    """Whether the cloud's figure can be of the product that the node names; a stale instance type's cannot."""
    stated = cloud.memory.memory_bytes
    if stated is None:
        return False
    return cloud.partial or not match.known or match.closest(stated, tolerance=NOMINAL_TOLERANCE).known


def _registered_memory(cards: tuple[RegisteredGpu, ...], match: ProductMatch) -> MemoryFigure:
    """Return the smallest card's memory, capped by the product's: HAMi may oversell it."""
    memory_bytes = min(card.memory_bytes for card in cards)
    warnings: tuple[str, ...] = ()
    if len({card.memory_bytes for card in cards}) > 1:
        warnings = (f"annotation {REGISTER}: the cards differ; the smallest, {memory_bytes // MIB:,} MiB, is used",)
    largest = match.memory_choices_bytes[-1] if match.known else None
    if largest is not None and memory_bytes > largest and not match.closest(memory_bytes).known:
        capped = f"annotation {REGISTER}: {memory_bytes // MIB:,} MiB is oversold; the card has {largest // MIB:,} MiB"
        return MemoryFigure(memory_bytes=largest, basis=Basis.PRODUCT_TABLE, warnings=(*warnings, capped))
    return MemoryFigure(memory_bytes=memory_bytes, basis=Basis.ANNOTATION, warnings=warnings)


def _sharing(
    labels: Mapping[str, str], product: str | None, offered: Offered, cards: tuple[RegisteredGpu, ...]
) -> _Shared:
    clients = reading.whole_number(labels.get(label.REPLICAS))
    word = labels.get(label.SHARING) or ""
    gke = labels.get(label.GKE_SHARING)
    if gke:
        word, clients = gke, reading.whole_number(labels.get(label.GKE_CLIENTS)) or clients
    splits = max((card.splits for card in cards), default=1)
    if splits > 1 and offered.capacity > len(cards):
        return _Shared(sharing=Sharing.TIME_SLICED, clients=splits)
    stated = _SHARING_WORDS.get(word.lower())
    if stated is Sharing.MPS or stated is Sharing.TIME_SLICED:
        return _Shared(sharing=stated, clients=clients if clients and clients > 0 else None)
    says_shared = bool(product and product.upper().endswith("-SHARED")) or offered.resource.endswith(".shared")
    if (clients is not None and clients > 1) or says_shared:
        return _Shared(sharing=Sharing.TIME_SLICED, clients=clients if clients and clients > 1 else None)
    return _SHARING_PLUGINS.get(offered.resource, _Shared())


def _share_of(memory: MemoryFigure, shared: _Shared) -> tuple[MemoryFigure, tuple[str, ...]]:
    """Return the memory that one pod gets of a shared device, and what it should know about it."""
    warnings = memory.warnings
    if shared.sharing is Sharing.TIME_SLICED:
        clients = f"{shared.clients} pods" if shared.clients else "several pods"
        warnings += (f"each device is time-sliced between {clients} that share its memory without any limit",)
    if shared.sharing is not Sharing.MPS:
        return memory, warnings
    if shared.clients is None or memory.memory_bytes is None:
        warnings += ("GPUs are shared by MPS and nothing says between how many pods: the memory of a share is unknown",)
        return UNKNOWN_MEMORY, warnings if shared.clients is None else memory.warnings
    share = MemoryFigure(memory_bytes=memory.memory_bytes // shared.clients, basis=memory.basis)
    return share, warnings


def _is_phantom(node: NodeContext, offered: Offered) -> bool:
    """Whether whole GPUs are still counted although the cards are now cut into slices."""
    count = reading.whole_number(node.labels.get(label.COUNT))
    in_slices = mig.cards_in_slices((other.resource, other.capacity) for other in node.offered)
    if not in_slices:
        return False
    if count is None:
        return node.labels.get(label.REPLICAS) == "0"
    return offered.capacity + in_slices > count


def _is_cut_up_unseen(node: NodeContext) -> bool:
    """Whether MIG is on while the device plugin does not know it: the labels are the card's, a pod gets a slice."""
    in_slices = mig.cards_in_slices((other.resource, other.capacity) for other in node.offered)
    return node.labels.get(label.REPLICAS) == "0" and not in_slices


def _uncovered(node: NodeContext, offered: Offered, shared: _Shared) -> str | None:
    """Say that there are more of a resource than the devices that the labels describe, so that they describe nothing.

    The labels of GPU Feature Discovery are of one model; a machine with two has more GPUs than they count. And a
    cloud's machine with more GPUs than it was sold with offers parts of them.
    """
    if shared.clients is None:
        return None
    labelled = reading.whole_number(node.labels.get(label.COUNT))
    if labelled:
        if offered.capacity <= labelled * shared.clients:
            return None
        return (
            f"label {label.COUNT}='{labelled}' covers fewer GPUs than the {offered.capacity} of {offered.resource}: "
            "the node has GPUs of more than one model, or stale labels, so product and memory are unknown"
        )
    sold = device_count(node.labels)
    if not sold or offered.capacity <= sold * shared.clients:
        return None
    return (
        f"there are {offered.capacity} of {offered.resource} on a machine with {sold}: they are parts of GPUs, and "
        "nothing says how much memory a part has (unknown)"
    )


def _node_gpus(
    node: NodeContext,
    offered: Offered,
    *,
    product: str | None,
    match: ProductMatch = UNKNOWN_PRODUCT,
    memory: MemoryFigure = UNKNOWN_MEMORY,
    shared: _Shared = _Shared(),
    profile: str | None = None,
    healthy: bool = True,
    warnings: tuple[str, ...] = (),
) -> NodeGpus:
    state = node.labels.get(label.MIG_STATE)
    if state is not None and state != "success":
        healthy = False
        warnings += (f"label {label.MIG_STATE}={state!r}: the MIG layout is being changed",)
    if memory.memory_bytes is None and healthy and not any("unknown" in warning for warning in warnings):
        warnings += (f"the memory of {offered.resource} is unknown: no label, product or instance type gives it",)
    narrowed = match.closest(memory.memory_bytes) if memory.memory_bytes is not None and profile is None else match
    known = narrowed if narrowed.known else match
    in_use_mib = reading.whole_number(node.labels.get(label.MEMORY_IN_USE))
    return NodeGpus(
        gpu_class=GpuClass(
            vendor="nvidia",
            resource_name=offered.resource,
            product=product,
            memory_bytes=memory.memory_bytes,
            compute_capability=_compute_capability(node.labels) or known.compute_capability,
            sharing=shared.sharing,
            mig_profile=profile,
            basis=memory.basis,
            interconnect=None if profile else _interconnect(node.labels) or known.interconnect,
            clients_per_device=shared.clients,
        ),
        capacity=offered.capacity,
        allocatable=offered.allocatable,
        healthy=healthy,
        memory_in_use_bytes=None if in_use_mib is None else in_use_mib * MIB,
        warnings=warnings,
    )


def _compute_capability(labels: Mapping[str, str]) -> str | None:
    major = reading.whole_number(labels.get(label.COMPUTE_MAJOR))
    minor = reading.whole_number(labels.get(label.COMPUTE_MINOR))
    return f"{major}.{minor}" if major and major < 100 and minor is not None and minor < 10 else None


def _interconnect(labels: Mapping[str, str]) -> str | None:
    stated = labels.get(label.INTERCONNECT)
    return stated if stated in ("NVLink", "PCIe") else None
