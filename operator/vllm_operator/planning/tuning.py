"""How vLLM's batch is set for one model on one GPU: sequences, tokens, element types.

Each choice keeps to what vLLM accepts and comes with its reason. The first variant is the one an expert would pick for
the batching mode; the second trades peak batch size for memory and is tried only where the first does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.api.spec import BatchingMode
from vllm_operator.models.facts import EngineSettings
from vllm_operator.planning.flags import flags_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.models.facts import Device, ModelFacts
    from vllm_operator.planning.families import Family
    from vllm_operator.planning.request import Request

BALANCED_SEQUENCES = 256
"""vLLM's default on GPUs below 70 GiB; on larger ones its 1024 mostly buys sampler buffer (seqs × vocab × 4 B)."""
LATENCY_SEQUENCES = 32
LATENCY_BATCHED_TOKENS = 2048
"""A chunk of prefill delays every decoding sequence by its own time; vLLM's small-GPU default keeps that short."""
COMPACT_SEQUENCES = 16
COMPACT_BATCHED_TOKENS = 2048

FIRST_CAPABILITY_WITH_BF16 = (8, 0)
NOT_IN_FLOAT16 = frozenset({"gemma2", "gemma3", "gemma3_text", "plamo2", "glm4"})
"""Models that vLLM refuses to run in float16 (_FLOAT16_NOT_SUPPORTED_MODELS, vllm/config/model.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """How one replica is spread over GPUs."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: bool = False
    nodes: int = 1
    """Nodes over which the pipeline stages are spread, as many on each; a tensor-parallel group stays on one."""

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor * self.pipeline * self.data

    @property
    def gpus_per_node(self) -> int:
        """GPUs that one replica takes on each of its nodes."""
        return self.gpus // self.nodes

    @property
    def group(self) -> int:
        """GPUs over which one copy of the model is spread."""
        return self.tensor * self.pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """Upper bounds of one scheduler step."""

    max_num_seqs: int
    max_num_batched_tokens: int
    compact: bool = False
    limited_by_state: bool = False
    """Whether the sequences were cut down to the recurrent states that the cache holds."""


def compute_capability(device: Device) -> tuple[int, int] | None:
    """The device's CUDA compute capability as numbers, None when unknown or not CUDA."""
    major, _, minor = (device.compute_capability or "").partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def dtype_for(request: Request, facts: ModelFacts, device: Device) -> tuple[str, str | None]:
    """The `--dtype` to give and, where it differs from what was asked, why."""
    capability = compute_capability(device)
    too_old = capability is not None and capability < FIRST_CAPABILITY_WITH_BF16
    if request.dtype != "auto" or facts.dtype != "bfloat16" or not too_old:
        return request.dtype, None
    reason = f"compute capability {device.compute_capability} has no bfloat16"
    if facts.model_type in NOT_IN_FLOAT16:
        return "float32", f"{reason} and this model is unstable in float16"
    return "float16", reason


def batchings(request: Request, default_seqs: int, default_tokens: int, *, sequences: int) -> Iterator[Batching]:
    """Yield the batch bounds to try, preferred first; the defaults are vLLM's own for this model and GPU.

    `sequences`: how many must run at once in one copy of the model.
    """
    match request.batching_mode:
        case BatchingMode.THROUGHPUT:
            seqs, tokens = default_seqs, default_tokens * 2
        case BatchingMode.LATENCY:
            seqs, tokens = min(default_seqs, LATENCY_SEQUENCES), min(default_tokens, LATENCY_BATCHED_TOKENS)
        case BatchingMode.BALANCED:
            seqs, tokens = min(default_seqs, BALANCED_SEQUENCES), default_tokens
    preferred = _bounded(request, seqs, tokens, sequences=sequences, compact=False)
    yield preferred
    small = _bounded(
        request,
        min(preferred.max_num_seqs, COMPACT_SEQUENCES),
        min(preferred.max_num_batched_tokens, COMPACT_BATCHED_TOKENS),
        sequences=sequences,
        compact=True,
    )
    if (small.max_num_seqs, small.max_num_batched_tokens) != (preferred.max_num_seqs, preferred.max_num_batched_tokens):
        yield small


def _bounded(request: Request, seqs: int, tokens: int, *, sequences: int, compact: bool) -> Batching:
    """Apply what the user fixed and what vLLM insists on: the wanted concurrency, and tokens ≥ sequences."""
    seqs = request.max_num_seqs or max(seqs, sequences)
    tokens = request.max_num_batched_tokens or max(tokens, seqs)
    return Batching(max_num_seqs=seqs, max_num_batched_tokens=tokens, compact=compact)


def settings_for(
    request: Request,
    *,
    parallelism: Parallelism,
    dtype: str,
    family: Family | None,
    batching: Batching | None = None,
    max_model_len: int | None = None,
) -> EngineSettings:
    """The settings of one candidate in vLLM's terms; without `batching` vLLM's own defaults apply."""
    return EngineSettings(
        version=request.engine_version,
        tensor_parallel_size=parallelism.tensor,
        pipeline_parallel_size=parallelism.pipeline,
        data_parallel_size=parallelism.data,
        decode_context_parallel_size=_context_parallel_size(request),
        enable_expert_parallel=parallelism.expert,
        max_model_len=max_model_len,
        max_num_seqs=batching.max_num_seqs if batching else request.max_num_seqs,
        max_num_batched_tokens=batching.max_num_batched_tokens if batching else request.max_num_batched_tokens,
        gpu_memory_utilization=request.policy.gpu_memory_utilization,
        dtype=dtype,
        kv_cache_dtype=request.kv_cache_dtype,
        quantization=request.quantization,
        block_size=_block_size(request, family),
        enforce_eager=request.enforce_eager,
        speculative=speculative_config(request),
        lora=lora_config(request),
        flags=extra_flags(request),
    )


def _block_size(request: Request, family: Family | None) -> int | None:
    own = extra_flags(request).get("block_size")
    if isinstance(own, int):
        return own
    wanted = dict(family.flags).get("block-size") if family is not None else None
    return int(wanted) if wanted else None


def _context_parallel_size(request: Request) -> int:
    own = extra_flags(request).get("decode_context_parallel_size")
    return own if isinstance(own, int) and own > 0 else 1


LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM's --max-lora-rank accepts (vllm/config/lora.py)."""


def lora_config(request: Request) -> Mapping[str, object] | None:
    """LoRA buffers as vLLM will allocate them: the rank is raised to the next one that it accepts."""
    if request.lora is None:
        return None
    rank = next((allowed for allowed in LORA_RANKS if allowed >= request.lora.max_rank), LORA_RANKS[-1])
    return {"max_loras": request.lora.max_loras, "max_lora_rank": rank}


def speculative_config(request: Request) -> Mapping[str, object] | None:
    """The value of --speculative-config."""
    wanted = request.speculative
    if wanted is None:
        return None
    config: dict[str, object] = {"method": wanted.method}
    if wanted.model_uri is not None:
        config["model"] = wanted.model_uri.removeprefix("hf://")
    if wanted.tokens is not None:
        config["num_speculative_tokens"] = wanted.tokens
    return config


def extra_flags(request: Request) -> Mapping[str, object]:
    """The user's extra arguments as settings, for the memory model: `--no-x` is x = False, a bare flag is True."""
    table = flags_of(request.engine_version)
    settings: dict[str, object] = {}
    tokens = list(request.extra_args)
    while tokens:
        name, inline, value = tokens.pop(0).removeprefix("--").partition("=")
        if not inline and tokens and table.has(name) and table.takes_value(name):
            value = tokens.pop(0)
        elif not inline:
            settings[name.removeprefix("no-").replace("-", "_")] = not name.startswith("no-")
            continue
        settings[name.replace("-", "_")] = int(value) if value.isdigit() else value
    return settings
