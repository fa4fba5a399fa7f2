"""Frozen records that the planner reads instead of Kubernetes objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Basis(StrEnum):
    """What a memory figure rests on."""

    NODE_LABEL = "NodeLabel"
    RESOURCE_SLICE = "ResourceSlice"
    ANNOTATION = "Annotation"
    INSTANCE_TYPE = "InstanceType"
    PRODUCT_TABLE = "ProductTable"
    DECLARED = "Declared"
    UNKNOWN = "Unknown"


class Sharing(StrEnum):
    """How one physical GPU is handed to pods."""

    EXCLUSIVE = "Exclusive"
    TIME_SLICED = "TimeSliced"
    MPS = "MPS"
    MIG = "MIG"
    VGPU = "VGPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """A node taint; `value` is empty where Kubernetes omits it."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuClass:
    """One kind of accelerator as nodes offer it. Equal classes are interchangeable for a plan."""

    vendor: str
    resource_name: str
    product: str | None
    memory_bytes: int | None
    compute_capability: str | None = None
    sharing: Sharing = Sharing.EXCLUSIVE
    mig_profile: str | None = None
    basis: Basis = Basis.UNKNOWN
    interconnect: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGpus:
    """What one node offers of one GPU class; numbers of the resource, before pods are subtracted."""

    gpu_class: GpuClass
    capacity: int
    allocatable: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """A node without its heartbeats: two equal records mean that nothing a plan reads has changed."""

    name: str
    ready: bool
    schedulable: bool
    labels: Mapping[str, str] = field(hash=False)
    taints: tuple[Taint, ...] = ()
    gpus: tuple[NodeGpus, ...] = ()
    allocatable_cpu_millis: int | None = None
    allocatable_memory_bytes: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """What a non-terminal, GPU-requesting pod holds. `owner` is the VLLMDeployment's namespace/name when it is ours."""

    namespace: str
    name: str
    uid: str
    node_name: str | None
    requests: Mapping[str, int] = field(hash=False)
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuOffer:
    """What one node has of one GPU class right now: `free` = allocatable minus what its pods request, never below 0."""

    node: NodeRecord
    gpu_class: GpuClass
    capacity: int
    allocatable: int
    free: int
    usable: bool
    declared: bool = False
    """True for capacity that an autoscaler could add but no node has yet."""
    warnings: tuple[str, ...] = ()
