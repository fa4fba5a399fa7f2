"""What is asked for, in the planner's own terms: the spec converted once, with every section's meaning resolved.

Suggestions are made by replacing fields of a `Request` and planning again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from vllm_operator.api.quantity import parse_bytes
from vllm_operator.api.spec import AccessMode, AutoAdjust, BatchingMode, CacheType, GpuSharing, OverheadModel
from vllm_operator.planning.capacity import GpuFilter, Toleration
from vllm_operator.planning.flags import spans_nodes
from vllm_operator.planning.host import HostNeed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.planning.defaults import Capabilities, OperatorDefaults


AUTO = "Auto"
OFF = "Off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The user's margins on top of a prediction."""

    gpu_memory_utilization: float
    headroom_gb: float
    fragmentation_factor: float
    overhead_gb: float | None = None
    overhead_model: OverheadModel = OverheadModel.AUTO
    may_shrink: bool = False
    """`autoAdjust: Safe`: context and concurrency may be lowered, never quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraAdapter:
    """One adapter that is served beside the base model."""

    name: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """LoRA buffers that vLLM allocates before it profiles."""

    max_loras: int
    max_rank: int
    adapters: tuple[LoraAdapter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculative:
    """Speculative decoding."""

    method: str
    model_uri: str | None = None
    tokens: int | None = None


class OneNodeOnly(StrEnum):
    """Why a replica cannot be spread over several nodes."""

    NOT_INSTALLED = "LeaderWorkerSetNotInstalled"
    OLD_ENGINE = "EngineKnowsOneNodeOnly"
    CACHE_ON_ONE_NODE = "CacheIsMountedByOneNode"
    OTHER_EXECUTOR = "ExecutorKnowsOneNodeOnly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One deployment's wishes. None means that the planner decides."""

    model_uri: str
    revision: str | None
    served_name: str | None
    trust_remote_code: bool
    parameters_billions: float | None

    context_length: int | None
    concurrency: int
    prompt_tokens: int | None
    generation_tokens: int | None
    batching_mode: BatchingMode

    engine_version: str
    image: str | None
    dtype: str
    quantization: str | None
    kv_cache_dtype: str
    tensor_parallel_size: int | None
    pipeline_parallel_size: int | None
    data_parallel_size: int | None
    expert_parallel: bool | None
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    enforce_eager: bool
    lora: Lora | None
    speculative: Speculative | None
    tool_calling: str
    reasoning: str
    extra_args: tuple[str, ...]

    gpus: GpuFilter
    policy: Policy
    replicas: int
    one_node_only: OneNodeOnly | None = OneNodeOnly.NOT_INSTALLED
    """What keeps a replica on one node; None: it may be spread over several."""
    replicas_with_surge: int = 2
    """Replicas that there must be room for when a rollout starts a pod before it ends one: one more than ever run."""
    rendered_sections: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)
    """Sections of the spec that only rendering reads; they are part of the plan's hash."""


def request_of(spec: VLLMDeploymentSpec, defaults: OperatorDefaults, capabilities: Capabilities) -> Request:
    """Convert a validated spec."""
    model, workload, engine, policy = spec.model, spec.workload, spec.engine, spec.policy
    version = (engine.version or defaults.engine_version).removeprefix("v")
    return Request(
        model_uri=model.uri,
        revision=model.revision,
        served_name=model.served_name,
        trust_remote_code=model.trust_remote_code,
        parameters_billions=model.parameters_billions,
        context_length=workload.context_length,
        concurrency=workload.concurrency,
        prompt_tokens=workload.prompt_tokens,
        generation_tokens=workload.generation_tokens,
        batching_mode=workload.batching_mode,
        engine_version=version,
        image=engine.image,
        dtype=engine.dtype,
        quantization=engine.quantization,
        kv_cache_dtype=engine.kv_cache_dtype,
        tensor_parallel_size=engine.tensor_parallel_size,
        pipeline_parallel_size=engine.pipeline_parallel_size,
        data_parallel_size=engine.data_parallel_size,
        expert_parallel=engine.expert_parallel,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        enforce_eager=engine.enforce_eager,
        lora=_lora(spec),
        speculative=_speculative(spec),
        tool_calling=engine.tool_calling,
        reasoning=engine.reasoning,
        extra_args=engine.extra_args,
        gpus=_gpu_filter(spec),
        policy=Policy(
            gpu_memory_utilization=policy.gpu_memory_utilization,
            headroom_gb=policy.headroom_gb,
            fragmentation_factor=policy.fragmentation_factor,
            overhead_gb=policy.overhead_gb,
            overhead_model=policy.overhead_model,
            may_shrink=policy.auto_adjust is AutoAdjust.SAFE,
        ),
        replicas=max(1, spec.desired_replicas),
        one_node_only=_one_node_only(spec, version, capabilities),
        replicas_with_surge=1 + (spec.scaling.max_replicas if spec.scaling else max(1, spec.desired_replicas)),
        rendered_sections=_rendered_sections(spec),
    )


def _one_node_only(spec: VLLMDeploymentSpec, version: str, capabilities: Capabilities) -> OneNodeOnly | None:
    """Return what keeps a replica on one node; of a claim that exists already nothing is known."""
    if not spans_nodes(version):
        return OneNodeOnly.OLD_ENGINE
    if not capabilities.leader_worker_sets:
        return OneNodeOnly.NOT_INSTALLED
    if _executor(spec.engine.extra_args) not in _EXECUTORS_OF_SEVERAL_NODES:
        return OneNodeOnly.OTHER_EXECUTOR
    cache = spec.cache
    makes_claim = cache.type is CacheType.PERSISTENT_VOLUME_CLAIM and cache.claim_name is None
    if makes_claim and cache.access_mode is not AccessMode.READ_WRITE_MANY:
        return OneNodeOnly.CACHE_ON_ONE_NODE
    return None


_EXECUTORS_OF_SEVERAL_NODES = ("mp", None)
"""Values of --distributed-executor-backend with which --nnodes starts workers (ParallelConfig.__post_init__ in
vllm/config/parallel.py); without the flag it is mp."""


def _executor(extra_args: Sequence[str]) -> str | None:
    """The executor that the user's own arguments ask for; None where they do not."""
    wanted = None
    for argument, following in pairwise((*extra_args, "")):
        name, inline, value = argument.replace("_", "-").partition("=")
        if name == "--distributed-executor-backend":
            wanted = value if inline else following
    return wanted


def _gpu_filter(spec: VLLMDeploymentSpec) -> GpuFilter:
    gpu = spec.gpu
    return GpuFilter(
        resource_name=gpu.resource_name,
        any_vendor=spec.engine.image is not None,
        products=gpu.products,
        min_memory_bytes=parse_bytes(gpu.min_memory) if gpu.min_memory is not None else None,
        node_selector=tuple(sorted(gpu.node_selector.items())),
        tolerations=tuple(
            Toleration(key=t.key or "", operator=t.operator, value=t.value or "", effect=t.effect or "")
            for t in gpu.tolerations
        ),
        allow_shared=gpu.sharing is GpuSharing.ALLOW_SHARED,
        host=HostNeed.of_template(spec.pod_template),
    )


DEFAULT_LORA_RANK = 16
"""vLLM's default of --max-lora-rank (vllm/config/lora.py)."""


def _lora(spec: VLLMDeploymentSpec) -> Lora | None:
    lora = spec.engine.lora
    if lora is None:
        return None
    adapters = tuple(LoraAdapter(name=adapter.name, uri=adapter.uri) for adapter in lora.adapters)
    return Lora(
        max_loras=lora.max_loras or max(1, len(adapters)),
        max_rank=lora.max_rank or DEFAULT_LORA_RANK,
        adapters=adapters,
    )


def _speculative(spec: VLLMDeploymentSpec) -> Speculative | None:
    wanted = spec.engine.speculative
    if wanted is None:
        return None
    return Speculative(method=wanted.method, model_uri=wanted.model_uri, tokens=wanted.tokens)


def _rendered_sections(spec: VLLMDeploymentSpec) -> Mapping[str, object]:
    return {
        "tokenSecretRef": spec.model.token_secret_ref,
        "env": spec.engine.env,
        "tolerations": spec.gpu.tolerations,
        "nodeSelector": spec.gpu.node_selector,
        "cache": spec.cache,
        "service": spec.service,
        "monitoring": spec.monitoring,
        "podTemplate": spec.pod_template,
    }
