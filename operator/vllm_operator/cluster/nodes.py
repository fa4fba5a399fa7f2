"""Nodes as the planner reads them: what a pod could request there, and of what kind it would be."""

from __future__ import annotations

from dataclasses import replace
from sys import intern
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster import labels as label
from vllm_operator.cluster import reading
from vllm_operator.cluster.amd import amd_gpus
from vllm_operator.cluster.nvidia import nvidia_gpus
from vllm_operator.cluster.other_vendors import other_gpus
from vllm_operator.cluster.records import NodeGpus, NodeRecord, Taint
from vllm_operator.cluster.resources import NodeContext, Offered, allocatable_of, offered_resources

if TYPE_CHECKING:
    from collections.abc import Mapping

HEARTBEATS: Final = frozenset({label.TIMESTAMP, label.MEMORY_IN_USE})
"""Labels that change without the offer having changed; what they mean for it is in the record elsewhere."""
_CLAIMS: Final = (
    label.PRODUCT,
    label.PRESENT,
    label.AMD_PRODUCT,
    label.AMD_DEVICE_ID,
    f"beta.{label.AMD_DEVICE_ID}",
    label.INTEL_PRODUCT,
    "feature.node.kubernetes.io/pci-10de.present",
    "feature.node.kubernetes.io/pci-0302_10de.present",
    "feature.node.kubernetes.io/amd-gpu",
)
"""Labels that say that a node has GPUs."""
_CLAIM_PREFIXES: Final = (f"beta.{label.AMD_DEVICE_ID}.", "gpu.intel.com/device-id.")
_SHORT: Final = 40
"""Label values up to this length are few and shared between nodes, so one copy of each is kept."""


def project_node(obj: Mapping[str, Any]) -> NodeRecord:
    """Return what a plan may read of a node; never raises, whatever the object holds."""
    metadata = reading.mapping_at(obj, "metadata")
    spec = reading.mapping_at(obj, "spec")
    status = reading.mapping_at(obj, "status")
    allocatable = allocatable_of(status)
    labels = reading.strings(reading.mapping_at(metadata, "labels"))
    name = intern(reading.text(metadata.get("name")) or "")
    context = NodeContext(
        name=name,
        labels=labels,
        annotations=reading.mapping_at(metadata, "annotations"),
        offered=offered_resources(status),
    )
    gpus = tuple(_gpus(context, offered) for offered in context.offered)
    return NodeRecord(
        name=name,
        ready=_is_ready(status),
        schedulable=spec.get("unschedulable") is not True,
        labels={intern(key): _shared(value) for key, value in labels.items() if key not in HEARTBEATS},
        taints=read_taints(spec),
        gpus=gpus,
        allocatable_cpu_millis=reading.thousandths(allocatable.get("cpu")),
        allocatable_memory_bytes=reading.whole_quantity(allocatable.get("memory")),
        allocatable_pods=reading.whole_quantity(allocatable.get("pods")),
        warnings=_unoffered(context),
    )


def _gpus(node: NodeContext, offered: Offered) -> NodeGpus:
    if offered.vendor == "nvidia":
        gpus = nvidia_gpus(node, offered)
    elif offered.vendor == "amd":
        gpus = amd_gpus(node, offered)
    else:
        gpus = other_gpus(node, offered)
    warnings = gpus.warnings
    if gpus.allocatable < gpus.capacity:
        lost = gpus.capacity - gpus.allocatable
        warnings += (f"{lost} of {gpus.capacity} of {offered.resource} cannot be requested (unhealthy or reserved)",)
    if gpus.memory_in_use_bytes:
        held = gpus.memory_in_use_bytes // 2**20
        warnings += (f"processes outside Kubernetes hold {held:,} MiB of GPU memory",)
    return replace(gpus, warnings=tuple(f"node {node.name}: {warning}" for warning in warnings))


def _unoffered(node: NodeContext) -> tuple[str, ...]:
    """Say that a node is labelled with GPUs and offers none: nothing to plan with, whatever the labels say."""
    if node.offered:
        return ()
    claims = (*_CLAIMS, *(name for name in node.labels if name.startswith(_CLAIM_PREFIXES)))
    claim = next((name for name in claims if node.labels.get(name) not in (None, "", "false")), None)
    if claim is None:
        return ()
    return (f"node {node.name}: label {claim}={node.labels[claim]!r}, but no GPU resource that a pod could request",)


def _is_ready(status: Mapping[str, Any]) -> bool:
    """Return kubelet's word; a dump without conditions is a list of nodes somebody means to use, so ready."""
    conditions = reading.items_at(status, "conditions")
    if not conditions:
        return True
    return any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions)


def read_taints(spec: Mapping[str, Any]) -> tuple[Taint, ...]:
    """Return the taints of a node, or of a template of one."""
    return tuple(
        Taint(
            key=intern(key),
            value=reading.text(taint.get("value")) or "",
            effect=intern(reading.text(taint.get("effect")) or "NoSchedule"),
        )
        for taint in reading.items_at(spec, "taints")
        if (key := reading.text(taint.get("key"))) is not None
    )


def _shared(value: str) -> str:
    return intern(value) if len(value) <= _SHORT else value
