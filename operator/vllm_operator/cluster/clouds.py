"""What clouds' own labels say of a node's GPUs, where nothing measured them.

These figures are nominal: what the catalogue sells, not what the driver reports. So they choose the product, and the
product's table gives the memory; the catalogue's number counts only for a product that the table does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster import reading
from vllm_operator.cluster.devices import MIB
from vllm_operator.cluster.instance_types import find_instance_type
from vllm_operator.cluster.memory import UNKNOWN_MEMORY, MemoryFigure, from_product, judge_label
from vllm_operator.cluster.products import UNKNOWN_PRODUCT, ProductMatch, find_product
from vllm_operator.cluster.records import Basis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.instance_types import InstanceGpus

INSTANCE_TYPE_LABELS: Final = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
GKE_ACCELERATOR: Final = "cloud.google.com/gke-accelerator"
GKE_TPU: Final = "cloud.google.com/gke-tpu-accelerator"
COREWEAVE_VRAM: Final = "gpu.nvidia.com/vram"
ALIBABA_MEMORY: Final = "aliyun.accelerator/nvidia_mem"
PRODUCT_LABELS: Final = (
    GKE_ACCELERATOR,
    GKE_TPU,
    "gpu.nvidia.com/model",
    "gpu.nvidia.com/class",
    "karpenter.k8s.aws/instance-gpu-name",
    "eks.amazonaws.com/instance-gpu-name",
    "karpenter.k8s.aws/instance-accelerator-name",
    "eks.amazonaws.com/instance-accelerator-name",
    "karpenter.azure.com/sku-gpu-name",
    "aliyun.accelerator/nvidia_name",
    "doks.digitalocean.com/gpu-model",
    "k8s.amazonaws.com/accelerator",
    "habana.ai/product.name",
)
"""Labels whose value is a product's name, the most telling first."""
NOMINAL_MEMORY_LABELS: Final = ("karpenter.k8s.aws/instance-gpu-memory", "eks.amazonaws.com/instance-gpu-memory")
"""Nominal memory of one GPU in MiB."""
COUNT_LABELS: Final = (
    "cloud.google.com/gke-accelerator-count",
    "karpenter.k8s.aws/instance-gpu-count",
    "eks.amazonaws.com/instance-gpu-count",
    "karpenter.azure.com/sku-gpu-count",
    "gpu.nvidia.com/count",
    "aliyun.accelerator/nvidia_count",
)
"""How many devices the machine has; only to notice that a resource counts parts of them."""
NOMINAL_TOLERANCE: Final = 0.10
"""Catalogue figures are up to 7 % off what the driver reports (Karpenter: T4 16384 against 15360 MiB)."""
_GKE_NAMES: Final = {"nvidia-tesla-a100": "A100-SXM4-40GB"}
"""Accelerator names of GKE that mean one memory size although the words leave it open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudGpus:
    """The product that a cloud names, and the memory that follows."""

    product: str | None = None
    match: ProductMatch = UNKNOWN_PRODUCT
    memory: MemoryFigure = UNKNOWN_MEMORY
    partial: bool = False
    """The instance type gets a part of a device (a vGPU)."""


def cloud_gpus(labels: Mapping[str, str]) -> CloudGpus:
    """Return what cloud labels and the instance type say; everything unknown where there are none."""
    stated, named = _named_product(labels)
    machine = _instance_gpus(labels)
    if machine is not None:
        typed = find_product(machine.product)
        if machine.slice_bytes is not None:
            memory = MemoryFigure(memory_bytes=machine.slice_bytes, basis=Basis.INSTANCE_TYPE)
            return CloudGpus(product=stated or machine.product, match=typed, memory=memory, partial=True)
        named = named.narrowed_by(typed) if named.known else typed
    measured = _measured_memory(labels, named)
    if measured is not None:
        return CloudGpus(product=stated or (machine.product if machine else None), match=named, memory=measured)
    nominal_bytes = _nominal_memory(labels)
    if nominal_bytes is not None and named.known:
        named = named.narrowed_by(named.closest(nominal_bytes, tolerance=NOMINAL_TOLERANCE))
        if not named.closest(nominal_bytes, tolerance=NOMINAL_TOLERANCE).known:
            # A fraction of the card (g6f: an L4 with 2,861 MiB): the catalogue's figure is what a pod gets.
            memory = MemoryFigure(memory_bytes=nominal_bytes, basis=Basis.NODE_LABEL)
            return CloudGpus(product=stated, match=named, memory=memory, partial=True)
    product = stated or (machine.product if machine else None)
    basis = Basis.PRODUCT_TABLE if stated is not None else Basis.INSTANCE_TYPE
    memory = from_product(named, basis=basis)
    if memory.memory_bytes is None and nominal_bytes is not None and not named.known:
        memory = MemoryFigure(memory_bytes=nominal_bytes, basis=Basis.NODE_LABEL)
    return CloudGpus(product=product, match=named, memory=memory)


def device_count(labels: Mapping[str, str]) -> int | None:
    """Return how many devices the machine was sold with, by label or instance type; None where neither says."""
    for label in COUNT_LABELS:
        count = reading.whole_number(labels.get(label))
        if count:
            return count
    machine = _instance_gpus(labels)
    return machine.count if machine is not None else None


def _named_product(labels: Mapping[str, str]) -> tuple[str | None, ProductMatch]:
    """Return the first product label with a name in the table; failing that, the first label as it is."""
    first: str | None = None
    for label in PRODUCT_LABELS:
        value = labels.get(label)
        if not value:
            continue
        match = find_product(_GKE_NAMES.get(value, value) if label == GKE_ACCELERATOR else value)
        if match.known:
            return value, match
        first = first or value
    return first, UNKNOWN_PRODUCT


def _instance_gpus(labels: Mapping[str, str]) -> InstanceGpus | None:
    for label in INSTANCE_TYPE_LABELS:
        value = labels.get(label)
        if value:
            return find_instance_type(value)
    return None


def _measured_memory(labels: Mapping[str, str], match: ProductMatch) -> MemoryFigure | None:
    """Return memory that the cloud's node image measured with `nvidia-smi` when the node started."""
    measured = labels.get(ALIBABA_MEMORY)
    if measured:
        return judge_label(ALIBABA_MEMORY, measured.removesuffix("MiB"), match)
    thousands = reading.whole_number(labels.get(COREWEAVE_VRAM))
    if thousands:
        # CoreWeave gives MiB ÷ 1000, cut off: 81 for 81,559 MiB, 143 for 143,771.
        return MemoryFigure(memory_bytes=thousands * 1000 * MIB, basis=Basis.NODE_LABEL)
    return None


def _nominal_memory(labels: Mapping[str, str]) -> int | None:
    for label in NOMINAL_MEMORY_LABELS:
        mib = reading.whole_number(labels.get(label))
        if mib:
            return mib * MIB
    return None
