"""The spec of a VLLMDeployment: intent, not flags.

Every knob is optional except the model. Unset means that the planner decides; there is no zero that means "off". This
module is the single source of fields, bounds, defaults and descriptions: the CRD is generated from it
(docs/decisions/0007).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from vllm_operator.api.base import LabelKey, LabelValue, ModelUri, Name, Quantity, ShortText, SpecModel, Tokens
from vllm_operator.api.engine import EngineSpec
from vllm_operator.api.exposure import GatewaySpec, MonitoringSpec, NetworkPolicySpec, ServiceSpec
from vllm_operator.api.references import ConfigMapKeyRef, SecretKeyRef
from vllm_operator.api.scaling import ScalingSpec

GibAmount = Annotated[float, Field(ge=0, le=1024)]


class BatchingMode(StrEnum):
    """What the batch size is tuned for."""

    THROUGHPUT = "Throughput"
    LATENCY = "Latency"
    BALANCED = "Balanced"


class Admission(StrEnum):
    """What happens to a deployment that cannot run."""

    ENFORCE = "Enforce"
    WARN = "Warn"
    OFF = "Off"


class OverheadModel(StrEnum):
    """Where the memory besides weights and KV cache comes from."""

    AUTO = "Auto"
    FORMULA = "Formula"


class AutoAdjust(StrEnum):
    """Whether the planner may lower what was asked for."""

    NEVER = "Never"
    SAFE = "Safe"


class GpuSharing(StrEnum):
    """Whether GPUs that other pods use at the same time are acceptable."""

    EXCLUSIVE = "Exclusive"
    ALLOW_SHARED = "AllowShared"


class RolloutStrategy(StrEnum):
    """How pods are replaced when the plan changes."""

    AUTO = "Auto"
    RECREATE = "Recreate"
    ROLLING_UPDATE = "RollingUpdate"


class CacheType(StrEnum):
    """Where downloaded weights are kept."""

    EMPTY_DIR = "EmptyDir"
    PERSISTENT_VOLUME_CLAIM = "PersistentVolumeClaim"
    HOST_PATH = "HostPath"


class AccessMode(StrEnum):
    """How many nodes may mount a claim at once."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"
    READ_WRITE_ONCE_POD = "ReadWriteOncePod"


class ModelSpec(SpecModel):
    """Which model to serve and where its facts come from."""

    uri: ModelUri
    """Model to serve: a hub id (`org/name` or `hf://org/name`), `pvc://claim/path`, `s3://bucket/path` or `oci://image`."""
    revision: (
        Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$")]
        | None
    ) = None
    """Branch, tag or commit on the hub; resolved once and pinned in the status. Unset: main."""
    served_name: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[^\s-]\S*$")] | None = None
    """Name under which the API serves the model. Unset: the resource's name."""
    token_secret_ref: SecretKeyRef | None = None
    """Secret with the hub token for gated or private models."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run. Never set by the operator itself."""
    config_ref: ConfigMapKeyRef | None = None
    """ConfigMap with the model's config.json, for clusters without access to the hub."""
    parameters_billions: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Number of parameters in billions: the last resort when nothing better is known of the model."""


class WorkloadSpec(SpecModel):
    """What the model must be able to hold at once."""

    context_length: Tokens | None = None
    """Tokens of one sequence, prompt and answer together. Unset: the largest that fits, up to the model's own."""
    concurrency: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Sequences of that length that must hold at the same time."""
    prompt_tokens: Tokens | None = None
    """Typical tokens of a prompt, for performance estimates."""
    generation_tokens: Tokens | None = None
    """Typical tokens of an answer, for performance estimates."""
    batching_mode: BatchingMode = BatchingMode.BALANCED
    """What the batch size is tuned for."""


class Toleration(SpecModel):
    """A toleration of the model's pods, as in a pod."""

    key: LabelKey | None = None
    """Taint key; unset with operator Exists matches all."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How key and value are compared."""
    value: LabelValue | None = None
    """Taint value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect to tolerate; unset: all."""
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Seconds that a NoExecute taint is tolerated."""


class GpuSpec(SpecModel):
    """Which GPUs may be used."""

    resource_name: (
        Annotated[str, StringConstraints(max_length=253, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] | None
    ) = None
    """Extended resource that pods request, such as `nvidia.com/gpu`. Unset: whatever GPU resource fits."""
    products: Annotated[tuple[ShortText, ...], Field(max_length=32)] = ()
    """Allow-list of product names as globs, such as `*H100*`. Empty: any."""
    min_memory: Quantity | None = None
    """Least memory of one GPU, such as `40Gi`."""
    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints that the pods tolerate, besides the one named like the GPU resource."""
    sharing: GpuSharing = GpuSharing.EXCLUSIVE
    """Whether time-sliced or MPS-shared GPUs are acceptable."""


class PolicySpec(SpecModel):
    """The margins that the user wants on top of the prediction, and what to do with the verdict."""

    admission: Admission = Admission.ENFORCE
    """When it cannot run: `Enforce` refuses it, `Warn` admits it and withholds the workload, `Off` renders anyway."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.90
    """Share of each GPU's memory that vLLM may take."""
    headroom_gb: GibAmount = 1.0
    """GiB per GPU that must stay free inside that share."""
    overhead_gb: GibAmount | None = None
    """Fixed GiB of overhead for one GPU group instead of the computed figure."""
    overhead_model: OverheadModel = OverheadModel.AUTO
    """`Auto`: the larger of the documented formula and the version's profile; `Formula`: the formula alone."""
    fragmentation_factor: Annotated[float, Field(ge=1, le=4)] = 1.15
    """Factor on the KV cache for blocks that are not full."""
    auto_adjust: AutoAdjust = AutoAdjust.NEVER
    """`Safe` may lower context length or concurrency, never quality."""


class RolloutSpec(SpecModel):
    """How a change is rolled out."""

    strategy: RolloutStrategy = RolloutStrategy.AUTO
    """`Auto` replaces in place when no GPU is free for a surge pod."""


class CacheSpec(SpecModel):
    """Where downloaded weights are kept."""

    type: CacheType = CacheType.EMPTY_DIR
    """Kind of volume."""
    size: Quantity | None = None
    """Size of the volume. Of type EmptyDir: its limit, and what each pod reserves of its node's disk."""
    claim_name: Name | None = None
    """Existing claim to use instead of making one."""
    storage_class_name: Name | None = None
    """Storage class of the claim that is made."""
    access_mode: AccessMode = AccessMode.READ_WRITE_ONCE
    """Access mode of the claim that is made. Replicas on several nodes share it only with `ReadWriteMany`."""
    host_path: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^/")] | None = None
    """Directory on the node, for type HostPath. Pod Security `restricted` does not admit it."""


class VLLMDeploymentSpec(SpecModel):
    """What the user wants."""

    model: ModelSpec
    """Which model to serve."""
    workload: WorkloadSpec = Field(default_factory=WorkloadSpec)
    """What it must be able to hold at once."""
    engine: EngineSpec = Field(default_factory=EngineSpec)
    """How vLLM runs it, where the planner should not decide."""
    gpu: GpuSpec = Field(default_factory=GpuSpec)
    """Which GPUs may be used."""
    policy: PolicySpec = Field(default_factory=PolicySpec)
    """Margins and what to do with the verdict."""
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Number of replicas; not together with `scaling`. Unset: 1."""
    scaling: ScalingSpec | None = None
    """Scaling by an autoscaler; not together with `replicas`."""
    rollout: RolloutSpec = Field(default_factory=RolloutSpec)
    """How a change is rolled out."""
    cache: CacheSpec = Field(default_factory=CacheSpec)
    """Where downloaded weights are kept."""
    service: ServiceSpec = Field(default_factory=ServiceSpec)
    """The Service in front of the pods."""
    gateway: GatewaySpec | None = None
    """How requests from outside reach the model. Unset: no route and no pool is made."""
    monitoring: MonitoringSpec = Field(default_factory=MonitoringSpec)
    """Metrics of the pods."""
    network_policy: NetworkPolicySpec | None = None
    """Makes a NetworkPolicy that closes the pods to all but the named. Unset: none is made."""
    pod_template: dict[str, Any] = Field(default_factory=dict)
    """Overlay for pod fields that are not modelled; it may add, but not remove what is managed."""

    @property
    def desired_replicas(self) -> int:
        """Replicas to plan for: the fixed number, or the fewest that an autoscaler may leave."""
        if self.scaling is not None:
            return max(1, self.scaling.min_replicas)
        return 1 if self.replicas is None else self.replicas
