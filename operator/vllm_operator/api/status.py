"""The status of a VLLMDeployment: verdict, memory, plan, and what the pods are doing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vllm_operator.api.base import LabelKey, StatusModel

Bytes = Annotated[int, Field(ge=0)]
NodeTerm = Annotated[
    dict[LabelKey, Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=1024)]],
    Field(max_length=32),
]
"""Label to the values of which a node must have one."""


class Condition(StatusModel):
    """One condition after the Kubernetes API conventions."""

    type: Annotated[str, Field(max_length=316)]
    """What the condition is about."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """One CamelCase word that says why."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """The fact, the numbers and the next step."""
    last_transition_time: str
    """When the status last changed (RFC 3339)."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """Generation of the spec that was judged."""


class FeasibilityReport(StatusModel):
    """The documented arithmetic for one GPU of the group, in GiB (design: the floor of every verdict)."""

    fits: bool
    """Whether the headroom is at least what the policy asks for."""
    oom_risk: Literal["Low", "Medium", "High"]
    """Low from 2 GiB of headroom, Medium from 0, High below."""
    vram_total_gb: float
    """Memory of the GPU."""
    vram_target_alloc_gb: float
    """Share of it that vLLM may take."""
    weights_gb: float
    """Weights."""
    kv_cache_gb: float
    """KV cache that the workload needs."""
    overhead_gb: float
    """Everything else."""
    headroom_gb: float
    """What is left; never negative."""
    max_concurrency_at_context: int
    """Sequences of the asked length that would fit."""
    max_context_at_concurrency: int
    """Tokens per sequence that would fit at the asked concurrency."""
    warnings: Annotated[list[Annotated[str, Field(max_length=2048)]], Field(max_length=32)] = Field(
        default_factory=list
    )
    """What to watch."""

    @property
    def weights_share(self) -> float:
        """Weights in per cent of the GPU's memory."""
        return _per_cent(self.weights_gb, self.vram_total_gb)

    @property
    def required_share(self) -> float:
        """Weights, KV cache and overhead in per cent of the GPU's memory."""
        return _per_cent(self.weights_gb + self.kv_cache_gb + self.overhead_gb, self.vram_total_gb)

    @property
    def kv_cache_share(self) -> float:
        """KV cache in per cent of what vLLM may take."""
        return _per_cent(self.kv_cache_gb, self.vram_target_alloc_gb)


def _per_cent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole > 0 else 0.0


class UtilizationReport(StatusModel):
    """Shares derived from the feasibility report, in per cent."""

    weights_percent: float
    """Weights of the GPU's memory."""
    required_percent: float
    """Weights, KV cache and overhead of the GPU's memory."""
    kv_cache_percent: float
    """KV cache of what vLLM may take."""


class MemoryBreakdown(StatusModel):
    """What one GPU of the group is predicted to hold, in bytes: what vLLM itself would report, with no margin in it."""

    total_bytes: Bytes
    """Memory of the GPU as CUDA sees it."""
    requested_bytes: Bytes
    """What vLLM may take: total × utilization."""
    weights_bytes: Bytes
    """Weights as loaded."""
    activation_bytes: Bytes = 0
    """Peak of one profiling batch."""
    cuda_graph_bytes: Bytes = 0
    """CUDA graphs."""
    non_torch_bytes: Bytes = 0
    """Communication buffers and other memory outside the allocator."""
    overhead_bytes: Bytes = 0
    """What the verdict counts besides weights and KV cache: the larger of formula and profile."""
    kv_cache_bytes: Bytes = 0
    """What is left for the KV cache."""
    kv_cache_interval_bytes: Annotated[list[Bytes], Field(max_length=2)] = Field(default_factory=list)
    """Lower and upper end of the 80 % interval of that figure."""
    kv_cache_needed_bytes: Bytes = 0
    """What the asked workload needs of it."""
    kv_cache_tokens: Bytes = 0
    """Tokens that the KV cache holds, as vLLM would log it."""
    basis: Annotated[str, Field(max_length=253)] = ""
    """What the weights' figure rests on."""
    confidence: Literal["Exact", "Estimated", "Extrapolated"] = "Estimated"
    """How well the model and version are known."""


class SuggestionStatus(StatusModel):
    """A change that was planned again and found to fit."""

    summary: Annotated[str, Field(max_length=1024)]
    """The change in words."""
    patch: Annotated[str, Field(max_length=4096)]
    """JSON merge patch of the object, for `kubectl patch --type merge -p`."""
    effect: Annotated[str, Field(max_length=1024)]
    """What it gains or costs."""


class PlanStatus(StatusModel):
    """The frozen answer for one generation."""

    hash: Annotated[str, Field(max_length=64)]
    """Hash of what is rendered."""
    image: Annotated[str, Field(max_length=512)] = ""
    """Engine image."""
    engine_version: Annotated[str, Field(max_length=32)] = ""
    """vLLM version that the plan is for."""
    revision: Annotated[str, Field(max_length=253)] | None = None
    """Commit of the model."""
    resource_name: Annotated[str, Field(max_length=253)] = ""
    """Extended resource that a pod requests."""
    gpu_product: Annotated[str, Field(max_length=253)] | None = None
    """GPU product that was planned for."""
    gpu_memory_bytes: Bytes | None = None
    """Memory of one such GPU."""
    nodes: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=16)] = Field(default_factory=list)
    """Nodes that qualified, at most sixteen of them."""
    gpus_per_replica: Annotated[int, Field(ge=0)] = 0
    """GPUs of one replica."""
    nodes_per_replica: Annotated[int, Field(ge=1)] = 1
    """Nodes that one replica takes, with a pod on each."""
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    """GPUs that share each layer."""
    pipeline_parallel_size: Annotated[int, Field(ge=1)] = 1
    """Groups of layers that run one after the other."""
    data_parallel_size: Annotated[int, Field(ge=1)] = 1
    """Copies of the model in one replica."""
    max_model_len: Annotated[int, Field(ge=0)] | None = None
    """Tokens of one sequence."""
    max_num_seqs: Annotated[int, Field(ge=0)] | None = None
    """Sequences in one batch."""
    args: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=256)] = Field(default_factory=list)
    """Arguments of `vllm serve`."""
    node_terms: Annotated[list[NodeTerm], Field(max_length=256)] = Field(default_factory=list)
    """Labels of which a node must have all of one entry: where the pods may run."""
    checkpoint_bytes: Bytes | None = None
    """Bytes of the weight files, from which the startup budget follows."""
    reasons: Annotated[list[ReasonStatus], Field(max_length=64)] = Field(default_factory=list)
    """Why each flag was chosen."""


class ReasonStatus(StatusModel):
    """Why one flag was chosen."""

    flag: Annotated[str, Field(max_length=253)]
    """vLLM's flag, without leading dashes."""
    value: Annotated[str, Field(max_length=1024)] = ""
    """Its value."""
    why: Annotated[str, Field(max_length=1024)]
    """The reason."""


class ObservedStatus(StatusModel):
    """What the running pods' vLLM reported, once their engines had started."""

    plan_hash: Annotated[str, Field(max_length=64)] | None = None
    """Plan of the pods that were read."""
    replicas: Annotated[int, Field(ge=0)] = 0
    """Replicas that were read."""
    kv_cache_tokens: Bytes | None = None
    """Tokens of KV cache that vLLM reports: of the engine with the least."""
    most_kv_cache_tokens: Bytes | None = None
    """The same of the engine with the most."""
    max_concurrency: float | None = None
    """Sequences of the full length that one replica holds at once, as vLLM reports it: of the one with the fewest."""
    gpu_memory_utilization: float | None = None
    """Share of the GPU's memory that vLLM reports to use."""
    predicted_kv_cache_tokens: Bytes | None = None
    """Tokens that had been predicted."""
    estimate_error_percent: float | None = None
    """How far the prediction was off, in per cent of what is there; positive where too much was predicted."""
    problem: Annotated[str, Field(max_length=1024)] | None = None
    """Why nothing of a pod is used, or known."""
    problem_reason: Literal["ObservationIgnored", "ObservationMissing"] | None = None
    """Whether the pod reports what cannot be true (ObservationIgnored), or could not be read (ObservationMissing)."""


class VLLMDeploymentStatus(StatusModel):
    """What is true of a VLLMDeployment at this moment."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of the spec that this status is about."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(default_factory=list)
    """Conditions, by type."""
    verdict: Literal["Fits", "FitsIfFreed", "FitsWhenScaled", "DoesNotFit", "Unknown"] | None = None
    """Whether it can run on this cluster."""
    oom_risk: Literal["Low", "Medium", "High"] | None = None
    """How close to the limit it runs."""
    feasibility: FeasibilityReport | None = None
    """The documented arithmetic, per GPU."""
    utilization: UtilizationReport | None = None
    """Shares of the GPU's memory."""
    memory: MemoryBreakdown | None = None
    """What one GPU is predicted to hold."""
    plan: PlanStatus | None = None
    """The frozen plan of this generation."""
    suggestions: Annotated[list[SuggestionStatus], Field(max_length=5)] = Field(default_factory=list)
    """Changes that were found to fit."""
    warnings: Annotated[list[Annotated[str, Field(max_length=2048)]], Field(max_length=32)] = Field(
        default_factory=list
    )
    """What to watch."""
    observed: ObservedStatus | None = None
    """What vLLM reported."""
    replicas: Annotated[int, Field(ge=0)] | None = None
    """Pods that exist."""
    ready_replicas: Annotated[int, Field(ge=0)] | None = None
    """Pods that serve the model in the planned form."""
    selector: Annotated[str, Field(max_length=1024)] | None = None
    """Label selector of the pods, for autoscalers."""


PlanStatus.model_rebuild()
