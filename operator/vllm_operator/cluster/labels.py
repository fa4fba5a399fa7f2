"""Node labels that are read, by name, with what they mean; the reference page is generated from this table.

Semantics were read in the writers' sources: NVIDIA/k8s-device-plugin `internal/lm/*.go` (GPU Feature Discovery),
ROCm/k8s-device-plugin `cmd/k8s-node-labeller`, intel-device-plugins-for-kubernetes `cmd/gpu_plugin/labels.md`,
aws/karpenter-provider-aws `pkg/apis/v1/labels.go`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PRODUCT: Final = "nvidia.com/gpu.product"
MEMORY: Final = "nvidia.com/gpu.memory"
COUNT: Final = "nvidia.com/gpu.count"
REPLICAS: Final = "nvidia.com/gpu.replicas"
SHARING: Final = "nvidia.com/gpu.sharing-strategy"
COMPUTE_MAJOR: Final = "nvidia.com/gpu.compute.major"
COMPUTE_MINOR: Final = "nvidia.com/gpu.compute.minor"
PRESENT: Final = "nvidia.com/gpu.present"
VGPU_PRESENT: Final = "nvidia.com/vgpu.present"
MIG_STATE: Final = "nvidia.com/mig.config.state"
TIMESTAMP: Final = "nvidia.com/gfd.timestamp"

GKE_SHARING: Final = "cloud.google.com/gke-gpu-sharing-strategy"
GKE_CLIENTS: Final = "cloud.google.com/gke-max-shared-clients-per-gpu"
GKE_PARTITION: Final = "cloud.google.com/gke-gpu-partition-size"

INTERCONNECT: Final = "vllm-operator.io/gpu.interconnect"
MEMORY_IN_USE: Final = "vllm-operator.io/gpu.memory-in-use"

AMD_VRAM: Final = "amd.com/gpu.vram"
AMD_PRODUCT: Final = "amd.com/gpu.product-name"
AMD_DEVICE_ID: Final = "amd.com/gpu.device-id"
AMD_UNITS: Final = "amd.com/gpu.cu-count"
AMD_PARTITION: Final = "amd.com/gpu.compute-memory-partition"

INTEL_PRODUCT: Final = "gpu.intel.com/product"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMeaning:
    """One label (or family of labels): who writes it, what it holds, and what is made of it."""

    name: str
    writer: str
    holds: str
    use: str


_GFD = "GPU Feature Discovery"
_NODE_AGENT = "vllm-operator label-node"

MEANINGS: Final[tuple[LabelMeaning, ...]] = (
    LabelMeaning(
        name=PRODUCT,
        writer=_GFD,
        holds="NVML product name; `-SHARED` and `-MIG-<profile>` appended",
        use="product; `-MIG-INVALID` makes the GPUs unusable",
    ),
    LabelMeaning(
        name=MEMORY,
        writer=_GFD,
        holds="MiB of one whole GPU, or of one slice under the MIG strategy `single`",
        use="memory, after a check against the product; 0, units, bytes and too much are reported",
    ),
    LabelMeaning(
        name=COUNT,
        writer=_GFD,
        holds="physical GPUs of one model, not multiplied by replicas",
        use="only to notice a second model in the node; the number comes from allocatable",
    ),
    LabelMeaning(
        name=REPLICAS,
        writer=_GFD,
        holds="clients of one GPU; 0 on MIG-enabled cards",
        use="how often a GPU is shared; MPS memory is the GPU's divided by it",
    ),
    LabelMeaning(
        name=SHARING,
        writer=_GFD,
        holds="`none`, `time-slicing`, `mps` or empty",
        use="sharing",
    ),
    LabelMeaning(
        name=COMPUTE_MAJOR,
        writer=_GFD,
        holds="CUDA compute capability, with `.minor` beside it",
        use="compute capability, before the product table's",
    ),
    LabelMeaning(
        name="nvidia.com/mig-<profile>.product, .memory, .count, .replicas, .sharing-strategy",
        writer=_GFD,
        holds="the same for each profile under the MIG strategy `mixed`",
        use="product and memory of the resource `nvidia.com/mig-<profile>`; matched to the resource, not the reverse",
    ),
    LabelMeaning(
        name=MIG_STATE,
        writer="NVIDIA MIG manager",
        holds="`success`, `pending`, `rebooting`, `failed`",
        use="anything but `success` makes the node's GPUs unusable for now",
    ),
    LabelMeaning(
        name=VGPU_PRESENT,
        writer=_GFD,
        holds="`true` in a vGPU guest",
        use="sharing VGPU; the product table does not apply",
    ),
    LabelMeaning(
        name="nvidia.com/gpu.present",
        writer="GPU Operator, NFD",
        holds="`true`",
        use="warning when the node offers no GPU resource",
    ),
    LabelMeaning(
        name=TIMESTAMP, writer=_GFD, holds="seconds since 1970", use="ignored: it changes without anything changing"
    ),
    LabelMeaning(
        name="cloud.google.com/gke-accelerator",
        writer="GKE",
        holds="product in lower case; `nvidia-tesla-a100` is the 40 GB one",
        use="product where GPU Feature Discovery is not installed",
    ),
    LabelMeaning(
        name=GKE_SHARING, writer="GKE", holds="`time-sharing` or `mps`", use="sharing (with the number of clients)"
    ),
    LabelMeaning(
        name=GKE_CLIENTS, writer="GKE", holds="clients of one GPU", use="MPS memory is the GPU's divided by it"
    ),
    LabelMeaning(name=GKE_PARTITION, writer="GKE", holds="MIG profile", use="sharing MIG; memory from the table"),
    LabelMeaning(
        name="cloud.google.com/gke-tpu-accelerator",
        writer="GKE",
        holds="TPU generation, such as `tpu-v6e-slice`",
        use="product of `google.com/tpu`",
    ),
    LabelMeaning(
        name="karpenter.k8s.aws/instance-gpu-name, -gpu-memory; eks.amazonaws.com/…",
        writer="Karpenter on AWS, EKS Auto Mode",
        holds="product in lower case; nominal MiB of one GPU (a T4 16384 although it has 15360)",
        use="product; the nominal memory picks between variants and serves alone for unknown products",
    ),
    LabelMeaning(name="karpenter.azure.com/sku-gpu-name", writer="Karpenter on Azure", holds="product", use="product"),
    LabelMeaning(
        name="gpu.nvidia.com/model, /class, /vram",
        writer="CoreWeave",
        holds="product; MiB ÷ 1000, cut off",
        use="product; memory, a thousand MiB for each",
    ),
    LabelMeaning(
        name="aliyun.accelerator/nvidia_name, nvidia_mem",
        writer="Alibaba Cloud ACK",
        holds="product; `nvidia-smi` total with `MiB`",
        use="product and memory",
    ),
    LabelMeaning(
        name="doks.digitalocean.com/gpu-model, k8s.amazonaws.com/accelerator",
        writer="DigitalOcean; a convention of cluster-autoscaler users",
        holds="product",
        use="product",
    ),
    LabelMeaning(
        name="node.kubernetes.io/instance-type",
        writer="cloud providers",
        holds="instance type",
        use="product and memory of last resort, from the table below",
    ),
    LabelMeaning(
        name=f"{AMD_VRAM}, beta.{AMD_VRAM}, beta.{AMD_VRAM}.<size>",
        writer="AMD node labeller",
        holds="GiB of one GPU, rounded, as `192G`; the oldest form has the size in the key and the count in the value",
        use="memory; on partitioned GPUs compared with the product's to tell whole card from partition",
    ),
    LabelMeaning(
        name=f"{AMD_PRODUCT}, beta.{AMD_PRODUCT}",
        writer="AMD node labeller",
        holds="product with underscores",
        use="product",
    ),
    LabelMeaning(
        name=f"{AMD_DEVICE_ID}, beta.{AMD_DEVICE_ID}",
        writer="AMD node labeller",
        holds="PCI device number",
        use="product's facts where the name is not labelled",
    ),
    LabelMeaning(
        name=f"{AMD_UNITS}, beta.{AMD_UNITS}",
        writer="AMD node labeller",
        holds="compute units of one device",
        use="tells a partition from a card where the partition is not labelled",
    ),
    LabelMeaning(
        name=AMD_PARTITION,
        writer="AMD node labeller",
        holds="compute and memory partition, such as `cpx_nps4`",
        use="how many partitions a card has",
    ),
    LabelMeaning(
        name=INTEL_PRODUCT,
        writer="NFD rules of Intel's device plugins",
        holds="product, such as `Max_1550`",
        use="product; memory from the product table",
    ),
    LabelMeaning(
        name=INTERCONNECT,
        writer=_NODE_AGENT,
        holds="`NVLink` or `PCIe`, as NVML reports the active links",
        use="interconnect, before the product table's",
    ),
    LabelMeaning(
        name=MEMORY_IN_USE,
        writer=_NODE_AGENT,
        holds="MiB that processes outside Kubernetes hold on the fullest GPU",
        use="warning, and less to plan with",
    ),
)
"""Every label read, in the order of the reference page."""
