"""Nodes as the planner reads them: what a pod could request there, and of what kind it would be."""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster import reading
from vllm_operator.cluster.nvidia import nvidia_gpus
from vllm_operator.cluster.records import NodeRecord, Taint
from vllm_operator.cluster.resources import offered_resources

if TYPE_CHECKING:
    from collections.abc import Mapping

HEARTBEATS: Final = frozenset({"nvidia.com/gfd.timestamp"})
"""Labels that change without anything having changed."""


def project_node(obj: Mapping[str, Any]) -> NodeRecord:
    """Return what a plan may read of a node; never raises, whatever the object holds."""
    metadata = reading.mapping_at(obj, "metadata")
    spec = reading.mapping_at(obj, "spec")
    status = reading.mapping_at(obj, "status")
    allocatable = reading.mapping_at(status, "allocatable")
    labels = {
        intern(key): intern(value)
        for key, value in reading.strings(reading.mapping_at(metadata, "labels")).items()
        if key not in HEARTBEATS
    }
    gpus = tuple(nvidia_gpus(labels, offered) for offered in offered_resources(status))
    return NodeRecord(
        name=intern(reading.text(metadata.get("name")) or ""),
        ready=_is_ready(status),
        schedulable=spec.get("unschedulable") is not True,
        labels=labels,
        taints=_taints(spec),
        gpus=gpus,
        allocatable_cpu_millis=reading.thousandths(allocatable.get("cpu")),
        allocatable_memory_bytes=reading.whole_quantity(allocatable.get("memory")),
        allocatable_pods=reading.whole_quantity(allocatable.get("pods")),
    )


def _is_ready(status: Mapping[str, Any]) -> bool:
    """Return kubelet's word; a dump without conditions is a list of nodes somebody means to use, so ready."""
    conditions = reading.items_at(status, "conditions")
    if not conditions:
        return True
    return any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions)


def _taints(spec: Mapping[str, Any]) -> tuple[Taint, ...]:
    return tuple(
        Taint(
            key=intern(key),
            value=reading.text(taint.get("value")) or "",
            effect=intern(reading.text(taint.get("effect")) or "NoSchedule"),
        )
        for taint in reading.items_at(spec, "taints")
        if (key := reading.text(taint.get("key"))) is not None
    )
