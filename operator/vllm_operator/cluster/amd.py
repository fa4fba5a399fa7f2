"""AMD GPUs: the node labeller's GiB, its older spellings, and partitioned cards.

ROCm/k8s-device-plugin `cmd/k8s-node-labeller/main.go`, `docs/user-guide/configuration.md`. Every label is optional.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster import labels as label
from vllm_operator.cluster import reading
from vllm_operator.cluster.clouds import cloud_gpus
from vllm_operator.cluster.devices import AMD_DEVICE_IDS, GIB, MIB
from vllm_operator.cluster.memory import MemoryFigure, from_product
from vllm_operator.cluster.products import MEMORY_TOLERANCE, ProductMatch, find_product
from vllm_operator.cluster.records import Basis, GpuClass, NodeGpus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.resources import NodeContext, Offered

_SIZE: Final = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>[GM])i?B?")
_UNIT_BYTES: Final = {"G": GIB, "M": MIB}
_PARTITION_RESOURCE: Final = re.compile(r"amd\.com/(?P<partition>[sdqc]px_nps[0-9]+)")
_XCDS: Final = {"MI300A": 6, "MI308X": 4}
"""Compute dies of one card, which is what CPX makes of it, where it is not the usual eight."""
_USUAL_XCDS: Final = 8
_COMPUTE_UNITS: Final = {"MI300X": 304, "MI325X": 304, "MI308X": 80, "MI300A": 228, "MI350X": 256, "MI355X": 256}
"""Compute units of a whole card: fewer in the label means that it is the label of a partition."""
_PARTS: Final = {"spx": 1, "dpx": 2, "tpx": 3, "qpx": 4}
_MOST_CARDS: Final = 16
"""No node has more cards; a higher count without a partition label is one of partitions."""


def amd_gpus(node: NodeContext, offered: Offered) -> NodeGpus:
    """Return one AMD resource of a node with what is known of the devices behind it."""
    cloud = cloud_gpus(node.labels)
    product = _labelled(node.labels, label.AMD_PRODUCT) or cloud.product
    match = find_product(product or AMD_DEVICE_IDS.get(_labelled(node.labels, label.AMD_DEVICE_ID) or ""))
    match = match if match.known else cloud.match
    found = _PARTITION_RESOURCE.fullmatch(offered.resource)
    partition = found["partition"] if found else _labelled(node.labels, label.AMD_PARTITION)
    parts = _parts_by_units(node.labels, match) if partition is None else _parts(partition, match)
    stated = _stated_bytes(_labelled(node.labels, label.AMD_VRAM))
    if parts == 1:
        memory = _whole_card(node.labels, stated, match, cloud.memory, offered)
    else:
        memory = _partition(stated, match, parts, partition)
    warnings = memory.warnings
    if memory.memory_bytes is None:
        warnings += (f"the memory of {offered.resource} is unknown: no label, product or instance type gives it",)
    return NodeGpus(
        gpu_class=GpuClass(
            vendor="amd",
            resource_name=offered.resource,
            product=product,
            memory_bytes=memory.memory_bytes,
            basis=memory.basis,
            interconnect=match.interconnect,
            partition=partition if parts != 1 else None,
        ),
        capacity=offered.capacity,
        allocatable=offered.allocatable,
        warnings=warnings,
    )


def _whole_card(
    labels: Mapping[str, str], stated: int | None, match: ProductMatch, cloud: MemoryFigure, offered: Offered
) -> MemoryFigure:
    name = f"{label.AMD_VRAM}={_labelled(labels, label.AMD_VRAM)!r}"
    if stated is None:
        if label.AMD_VRAM in labels:
            fallback = from_product(match)
            complaint = f"label {name} is not a size such as '192G'"
            return MemoryFigure(memory_bytes=fallback.memory_bytes, basis=fallback.basis, warnings=(complaint,))
        if offered.capacity > _MOST_CARDS:
            complaint = f"{offered.capacity} of {offered.resource} are more than a node has cards: they are partitions"
            return MemoryFigure(warnings=(complaint,))
        return cloud if cloud.memory_bytes is not None else from_product(match)
    if not match.known or match.closest(stated).known:
        return MemoryFigure(memory_bytes=stated, basis=Basis.NODE_LABEL)
    whole = match.memory_choices_bytes[0]
    if stated < whole:
        complaint = f"label {name} is below the product's {whole // GIB}G: the card may be partitioned"
        return MemoryFigure(memory_bytes=stated, basis=Basis.NODE_LABEL, warnings=(complaint,))
    fallback = from_product(match)
    complaint = f"label {name} is above the product's {whole // GIB}G, which is used"
    return MemoryFigure(memory_bytes=fallback.memory_bytes, basis=fallback.basis, warnings=(complaint,))


def _partition(stated: int | None, match: ProductMatch, parts: int | None, partition: str | None) -> MemoryFigure:
    """Return a partition's memory. The label may be the card's or already the partition's, so it is compared."""
    whole = match.memory_bytes
    if parts is None or whole is None:
        return MemoryFigure(warnings=(f"partition {partition} of an unknown card: its share of the memory is unknown",))
    share = whole // parts
    if stated is None:
        return MemoryFigure(memory_bytes=share, basis=Basis.PRODUCT_TABLE)
    if abs(stated - whole) <= MEMORY_TOLERANCE * whole:
        return MemoryFigure(memory_bytes=stated // parts, basis=Basis.NODE_LABEL)
    if abs(stated - share) <= MEMORY_TOLERANCE * share:
        return MemoryFigure(memory_bytes=stated, basis=Basis.NODE_LABEL)
    complaint = (
        f"label {label.AMD_VRAM} says {stated // GIB}G, which is neither the card's {whole // GIB}G nor the "
        f"{share // GIB}G of a partition"
    )
    return MemoryFigure(warnings=(complaint,))


def _parts_by_units(labels: Mapping[str, str], match: ProductMatch) -> int:
    """Return into how many devices a card is split, where no label says it, from the compute units of one."""
    units = reading.whole_number(_labelled(labels, label.AMD_UNITS))
    whole = {_COMPUTE_UNITS.get(device.product) for device in match.candidates}
    card = whole.pop() if len(whole) == 1 else None
    return card // units if card and units and card % units == 0 else 1


def _parts(partition: str, match: ProductMatch) -> int | None:
    """Return into how many devices a card is split; None when the partition's name is not known."""
    compute = partition.lower().partition("_")[0]
    if compute != "cpx":
        return _PARTS.get(compute)
    dies = {_XCDS.get(device.product, _USUAL_XCDS) for device in match.candidates}
    return dies.pop() if len(dies) == 1 else None


def _labelled(labels: Mapping[str, str], name: str) -> str | None:
    """Return a label's value under its name, under `beta.`, or from the oldest form with the value in the key."""
    value = labels.get(name) or labels.get(f"beta.{name}")
    if value:
        return value
    in_keys = {key.removeprefix(f"beta.{name}.") for key in labels if key.startswith(f"beta.{name}.")}
    return in_keys.pop() if len(in_keys) == 1 else None


def _stated_bytes(size: str | None) -> int | None:
    found = _SIZE.fullmatch(size) if size else None
    stated = int(found["number"]) * _UNIT_BYTES[found["unit"]] if found else None
    return stated or None
