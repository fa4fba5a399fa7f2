"""Every setting filled in as that vLLM version would on that GPU.

Sources: vllm/engine/arg_utils.py, vllm/config/{cache,scheduler,vllm}.py@0.33.0; `models.versions`
has what differs by version.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vllm_operator.models.versions import (
    EngineVersion,
    default_batch,
    default_gpu_memory_utilization,
    parse_version,
    prefill_in_one_piece_tokens,
    schedules_asynchronously,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.models.facts import Device, EngineSettings, ModelFacts

DEFAULT_BLOCK_SIZE: Final = 16
_DTYPE_NAMES: Final = {"half": "float16", "float": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSettings:
    """What vLLM would run with: no None where it has a default."""

    version: EngineVersion
    tensor_parallel_size: int
    pipeline_parallel_size: int
    data_parallel_size: int
    decode_context_parallel_size: int
    enable_expert_parallel: bool
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    gpu_memory_utilization: float
    dtype: str
    kv_cache_dtype: str
    quantization: str | None
    block_size: int
    enforce_eager: bool
    enable_prefix_caching: bool
    max_in_flight_tokens: int
    """Tokens that sliding windows reserve for beyond their window: batches in flight × max_num_batched_tokens."""
    hybrid_kv_cache_manager: bool = True
    speculative: Mapping[str, object] | None = field(default=None, hash=False)
    lora: Mapping[str, object] | None = field(default=None, hash=False)
    flags: Mapping[str, object] = field(default_factory=dict, hash=False)


def resolve_settings(facts: ModelFacts, settings: EngineSettings, device: Device) -> ResolvedSettings:
    """Return the settings with every default of that version, model and GPU filled in."""
    version = parse_version(settings.version)
    flags = settings.flags
    length = settings.max_model_len or facts.max_model_len
    defaults = default_batch(version, device_bytes=device.memory_bytes, product=device.product)
    whole_prompt = prefill_in_one_piece_tokens(version, max_model_len=length)
    tokens = settings.max_num_batched_tokens or whole_prompt or defaults.max_num_batched_tokens
    sequences = settings.max_num_seqs or defaults.max_num_seqs
    if settings.max_num_batched_tokens is None:
        tokens = min(tokens, sequences * length)
    if settings.max_num_seqs is None:
        sequences = min(sequences, tokens)
    asynchronous = flags.get("async_scheduling", schedules_asynchronously(version)) is not False
    stages = settings.pipeline_parallel_size
    batches = (stages + 1 if stages > 1 else 2) if asynchronous else stages
    return ResolvedSettings(
        version=version,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=stages,
        data_parallel_size=settings.data_parallel_size,
        decode_context_parallel_size=settings.decode_context_parallel_size,
        enable_expert_parallel=settings.enable_expert_parallel,
        max_model_len=length,
        max_num_seqs=sequences,
        max_num_batched_tokens=tokens,
        gpu_memory_utilization=settings.gpu_memory_utilization or default_gpu_memory_utilization(version),
        dtype=_run_dtype(facts, settings.dtype),
        kv_cache_dtype=_kv_cache_dtype(facts, settings),
        quantization=settings.quantization or facts.quantization,
        block_size=settings.block_size or DEFAULT_BLOCK_SIZE,
        enforce_eager=settings.enforce_eager,
        enable_prefix_caching=flags.get("enable_prefix_caching", facts.generates) is not False,
        max_in_flight_tokens=batches * tokens,
        hybrid_kv_cache_manager=not flags.get("disable_hybrid_kv_cache_manager"),
        speculative=settings.speculative,
        lora=settings.lora,
        flags=flags,
    )


def _run_dtype(facts: ModelFacts, stated: str) -> str:
    """`auto` runs float32 checkpoints in 16 bit: vllm/config/model.py:_get_and_verify_dtype."""
    if stated != "auto":
        return _DTYPE_NAMES.get(stated, stated)
    return "bfloat16" if facts.dtype == "float32" else facts.dtype


def _kv_cache_dtype(facts: ModelFacts, settings: EngineSettings) -> str:
    if settings.kv_cache_dtype == "auto" and facts.kv_cache_quantized:
        return "fp8"
    return settings.kv_cache_dtype
