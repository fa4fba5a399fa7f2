"""The plan: the frozen answer for one generation of one VLLMDeployment."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.status import FeasibilityReport, MemoryBreakdown
    from vllm_operator.cluster.records import GpuClass
    from vllm_operator.planning.performance import Performance


class Verdict(StrEnum):
    """Whether the deployment can run on this cluster."""

    FITS = "Fits"
    FITS_IF_FREED = "FitsIfFreed"
    FITS_WHEN_SCALED = "FitsWhenScaled"
    DOES_NOT_FIT = "DoesNotFit"
    UNKNOWN = "Unknown"


class OomRisk(StrEnum):
    """How close to the limit the plan runs."""

    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A change that was re-planned and found to fit. `patch` is a JSON merge patch of the object (`{"spec": …}`)."""

    summary: str
    patch: Mapping[str, object]
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why one flag or choice was made; `flag` is vLLM's long name without dashes in front."""

    flag: str
    value: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one replica runs. Several equal nodes qualify; the scheduler picks one of them."""

    gpu_class: GpuClass
    gpus_per_replica: int
    nodes: tuple[str, ...]
    """Names of the nodes that could hold one pod of a replica, sorted."""
    node_selector_terms: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    """Terms for required node affinity (label -> allowed values), OR-ed."""
    nodes_per_replica: int = 1
    """Nodes that one replica takes; each of its pods has as many GPUs as every other."""

    @property
    def gpus_per_pod(self) -> int:
        """GPUs that one pod requests: never more than a node has."""
        return self.gpus_per_replica // self.nodes_per_replica


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeOff:
    """Sequences of one length that hold at once, within the policy's margins: one figure is given, one the most."""

    context_length: int
    max_concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """The best way found on one GPU class, whether chosen or not."""

    gpu_class: GpuClass
    gpus_per_replica: int
    nodes_per_replica: int = 1
    verdict: Verdict
    oom_risk: OomRisk | None
    headroom_bytes: int | None
    """Per GPU; negative by how much it does not fit, None when nothing could be computed."""
    max_context: int | None = None
    """At the asked concurrency."""
    max_concurrency: int | None = None
    """At the planned context."""
    by_context: tuple[TradeOff, ...] = ()
    """How many sequences hold at once, at several contexts."""
    by_concurrency: tuple[TradeOff, ...] = ()
    """How long each sequence may be, at several concurrencies; 0 where not even one token holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Verdict, memory, flags and placement for one generation; a pure function of spec, facts and inventory."""

    verdict: Verdict
    oom_risk: OomRisk | None
    message: str
    """One sentence with the numbers: what is needed, what the best class offers, what would make it fit."""
    feasibility: FeasibilityReport | None = None
    memory: MemoryBreakdown | None = None
    placement: Placement | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    expert_parallel: bool = False
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_dtype: str = "auto"
    concurrency: int = 1
    """Sequences of `max_model_len` that hold at once."""
    replicas: int = 1
    """Replicas that the verdict is about."""
    has_room_for_surge: bool = False
    """Whether one replica more could be placed right now: a rolling update may then start a pod before it stops one."""
    image: str = ""
    engine_version: str = ""
    model: str = ""
    """What vLLM is given as its model argument (Hub id or a path inside the pod)."""
    revision: str | None = None
    args: tuple[str, ...] = ()
    """Everything after `vllm serve`, model included, one token each."""
    checkpoint_bytes: int | None = None
    """Bytes of the weight files, for the startup budget; None when unknown."""
    suggestions: tuple[Suggestion, ...] = ()
    warnings: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    trade_offs: tuple[TradeOff, ...] = ()
    performance: Performance | None = None
    """Bounds of the speed; None where there is nothing honest to say."""
    inputs_read: Mapping[str, object] = field(default_factory=dict)
    hash: str = ""

    @property
    def renderable(self) -> bool:
        """Whether there is enough in the plan to render a workload from it."""
        return self.placement is not None and bool(self.args)
