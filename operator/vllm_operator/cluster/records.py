"""Frozen records that the planner reads instead of Kubernetes objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


DEVICE_CLASS_PREFIX = "deviceclass.resource.kubernetes.io/"
"""Kubernetes: `k8s.io/api/resource/v1/types.go:ResourceDeviceClassPrefix`."""


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
    """`NVLink`, `PCIe` or the like between the devices of one node; None where nothing says, and between slices."""
    clients_per_device: int | None = 1
    """How many pods one physical device is handed to at once; None when it is shared and nothing says how often."""
    partition: str | None = None
    """AMD compute and memory partition, such as `cpx_nps4`; None for whole devices."""

    @property
    def requested_as(self) -> str:
        """The name by which a pod requests it; `resource_name` is a DRA driver's where no device plugin offers it.

        Kubernetes has an extended resource for every DeviceClass (KEP 5004, on by default since 1.36), and drivers
        install one named like themselves.
        """
        if "/" in self.resource_name:
            return self.resource_name
        device_class = self.resource_name
        if self.mig_profile is not None:
            device_class = device_class.replace("gpu.", "mig.", 1)
        return f"{DEVICE_CLASS_PREFIX}{device_class}"

    @property
    def joins_devices(self) -> bool:
        """Whether several of them in one pod are several devices that can work as one tensor-parallel group.

        Two time slices or two MPS shares may be the same card, and MIG slices have no path to each other (no
        peer-to-peer, no NCCL between slices of one card).
        """
        return self.sharing in (Sharing.EXCLUSIVE, Sharing.VGPU)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGpus:
    """What one node offers of one GPU class; numbers of the resource, before pods are subtracted."""

    gpu_class: GpuClass
    capacity: int
    allocatable: int
    healthy: bool = True
    """False when the node offers the number but a pod that got one could not start."""
    memory_in_use_bytes: int | None = None
    """Memory that processes outside Kubernetes hold on the fullest device; None where nobody measured it."""
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
    allocatable_pods: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """What a non-terminal pod holds. `owner` is the VLLMDeployment's namespace/name when it is ours.

    `requests` maps a resource to its number; `cpu` is in thousandths of a core, `memory` and `ephemeral-storage` in
    bytes, everything else in whole units.
    """

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
    memory_in_use_bytes: int | None = None
    """Memory of a device that processes outside Kubernetes hold; None where nobody measured it."""
    declared: bool = False
    """True for capacity that an autoscaler could add but no node has yet."""
    healthy: bool = True
    """False when a pod that got one could not start, whatever the node's own state."""
    free_cpu_millis: int | None = None
    free_memory_bytes: int | None = None
    free_pods: int | None = None
    """Pod slots left on the node. As the two above, None where the node does not state its allocatable."""
    warnings: tuple[str, ...] = ()
