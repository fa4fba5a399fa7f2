"""Every setting filled in as that vLLM version would on that GPU.

Sources: vllm/engine/arg_utils.py, vllm/config/{cache,scheduler,vllm}.py@0.33.0; `models.versions`
has what differs by version.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vllm_operator.models.block_sizes import checkpoint_blocks, hybrid_block_tokens, kernel_block_tokens
from vllm_operator.models.bounded_memory import Recent
from vllm_operator.models.cache_kinds import cache_kinds
from vllm_operator.models.caches import AttentionCache, LatentCache, PackedCache, StateCache
from vllm_operator.models.gpu_generation import AMPERE, HOPPER, capability_of, is_datacenter_blackwell
from vllm_operator.models.pages import PACKED_LATENT, Widths, attention_token_bytes, latent_token_bytes
from vllm_operator.models.stages import Stages, stages_of
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
    from vllm_operator.models.gpu_generation import Capability

_DTYPE_NAMES: Final = {"half": "float16", "float": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSettings:
    """What vLLM would run with: no None where it has a default."""

    version: EngineVersion
    tensor_parallel_size: int
    pipeline_parallel_size: int
    stages: Stages
    """How the layers are cut into the stages of the pipeline."""
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
    """Tokens per block of the layers whose cache grows."""
    enforce_eager: bool
    enable_prefix_caching: bool
    max_in_flight_tokens: int
    """Tokens that sliding windows reserve for beyond their window: batches in flight × max_num_batched_tokens."""
    hybrid_kv_cache_manager: bool = True
    max_num_encoder_input_tokens: int = 0
    """Tokens that cross attention reserves for, in encoder-decoder models."""
    widths: Widths
    """What turns the elements of a cache into bytes."""
    state_blocks: int = 1
    """Blocks per sequence of a layer that keeps a state."""
    state_block_size: int = 0
    state_page_bytes: int = 0
    """Page to which a state is padded so that it equals an attention page; 0 without one."""
    speculative: Mapping[str, object] | None = field(default=None, hash=False)
    lora: Mapping[str, object] | None = field(default=None, hash=False)
    flags: Mapping[str, object] = field(default_factory=dict, hash=False)


def resolve_settings(facts: ModelFacts, settings: EngineSettings, device: Device) -> ResolvedSettings:
    """Return the settings with every default of that version, model and GPU filled in.

    Raises:
        ModelConfigError: the KV cache's data type is not known here.
    """
    version = parse_version(settings.version)
    length = settings.max_model_len or facts.default_max_model_len or facts.max_model_len
    tokens, sequences = _batch_limits(facts, settings, device, version, length)
    kernels = _recent_kernels(facts, settings, version, capability_of(device))
    widths, blocks = kernels.widths, kernels.blocks
    return ResolvedSettings(
        version=version,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        stages=stages_of(settings.pipeline_parallel_size, version, settings.flags),
        data_parallel_size=settings.data_parallel_size,
        decode_context_parallel_size=settings.decode_context_parallel_size,
        enable_expert_parallel=settings.enable_expert_parallel,
        max_model_len=length,
        max_num_seqs=sequences,
        max_num_batched_tokens=tokens,
        gpu_memory_utilization=settings.gpu_memory_utilization or default_gpu_memory_utilization(version),
        dtype=widths.dtype,
        kv_cache_dtype=widths.kv_cache_dtype,
        quantization=settings.quantization or facts.quantization,
        block_size=blocks.tokens,
        enforce_eager=settings.enforce_eager,
        enable_prefix_caching=kernels.caches_prefixes,
        max_in_flight_tokens=_batches_in_flight(facts, settings, version) * tokens,
        hybrid_kv_cache_manager=settings.flags.get("disable_hybrid_kv_cache_manager") is not True,
        max_num_encoder_input_tokens=tokens if facts.is_encoder_decoder else 0,
        widths=widths,
        state_blocks=blocks.state_blocks,
        state_block_size=length if blocks.state_tokens is None else blocks.state_tokens,
        state_page_bytes=blocks.state_page_bytes,
        speculative=settings.speculative,
        lora=settings.lora,
        flags=settings.flags,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blocks:
    tokens: int
    state_blocks: int
    state_tokens: int | None
    """None: as many as the longest sequence has."""
    state_page_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernels:
    """What follows from the model, the GPU and the data types, whatever the lengths."""

    widths: Widths
    caches_prefixes: bool
    blocks: _Blocks


_KERNELS: Recent[_Kernels] = Recent(capacity=16384)


def _recent_kernels(
    facts: ModelFacts, settings: EngineSettings, version: EngineVersion, capability: Capability
) -> _Kernels:
    """`_kernels`, remembered: rows and searches ask of the same ones at many lengths."""
    key = (
        version.release >= _HYBRID_PREFIXES_SINCE,
        capability,
        settings.tensor_parallel_size,
        settings.dtype,
        settings.kv_cache_dtype,
        settings.block_size,
        _speculative_tokens(settings),
        *((repr(settings.flags.get(name)) for name in _KERNEL_FLAGS) if settings.flags else ()),
    )
    return _KERNELS.get(facts, key, lambda: _kernels(facts, settings, version, capability))


_KERNEL_FLAGS: Final = ("mamba_ssm_cache_dtype", "mamba_cache_dtype", "enable_prefix_caching")


def _kernels(facts: ModelFacts, settings: EngineSettings, version: EngineVersion, capability: Capability) -> _Kernels:
    widths = Widths(
        tensor_parallel_size=settings.tensor_parallel_size,
        dtype=_run_dtype(facts, settings.dtype, capability),
        kv_cache_dtype=_kv_cache_dtype(facts, settings, capability),
        state_dtype=_flag_text(settings.flags, "mamba_ssm_cache_dtype"),
        conv_dtype=_flag_text(settings.flags, "mamba_cache_dtype"),
        drafted_tokens=_speculative_tokens(settings),
    )
    caches_prefixes = _caches_prefixes(facts, settings, version)
    blocks = _blocks(facts, settings, widths, capability, keeps_states=caches_prefixes)
    return _Kernels(widths=widths, caches_prefixes=caches_prefixes, blocks=blocks)


def _batch_limits(
    facts: ModelFacts, settings: EngineSettings, device: Device, version: EngineVersion, length: int
) -> tuple[int, int]:
    """`max_num_batched_tokens` and `max_num_seqs`: arg_utils.py `_set_default_max_num_seqs_and_batched_tokens_args`."""
    defaults = default_batch(version, device_bytes=device.memory_bytes, product=device.product)
    factor = 2 if settings.flags.get("performance_mode") == "throughput" else 1
    whole_prompt = prefill_in_one_piece_tokens(version, max_model_len=length) or 0
    if _encodes_at_once(facts) or settings.flags.get("enable_chunked_prefill") is False:
        whole_prompt = max(whole_prompt, length, defaults.max_num_batched_tokens * factor)
    tokens = settings.max_num_batched_tokens or whole_prompt or defaults.max_num_batched_tokens * factor
    sequences = settings.max_num_seqs or defaults.max_num_seqs * factor
    if settings.max_num_batched_tokens is None:
        tokens = min(tokens, sequences * length)
    if settings.max_num_seqs is None:
        sequences = min(sequences, tokens)
    return tokens, sequences


def _encodes_at_once(facts: ModelFacts) -> bool:
    """Whether a text must pass in one piece: `is_chunked_prefill_supported` in vllm/config/model.py.

    A decoder that is pooled reads its last token and takes a prompt in chunks, unless it scores each step.
    """
    return not facts.generates and (not facts.caches or "ProcessReward" in facts.architecture)


def _batches_in_flight(facts: ModelFacts, settings: EngineSettings, version: EngineVersion) -> int:
    """`max_concurrent_batches` in vllm/config/vllm.py."""
    pools = not facts.generates or settings.flags.get("runner") == "pooling"
    default = schedules_asynchronously(version) and not pools
    stages = settings.pipeline_parallel_size
    if settings.flags.get("async_scheduling", default) is False:
        return stages
    return stages + 1 if stages > 1 else 2


def _caches_prefixes(facts: ModelFacts, settings: EngineSettings, version: EngineVersion) -> bool:
    """On by default for every decoder that has something to look up; a state alone is never cached."""
    kinds = cache_kinds(facts)
    has_state = any(isinstance(cache, StateCache) for cache in kinds)
    looks_up = any(not isinstance(cache, StateCache) for cache in kinds)
    default = facts.generates and looks_up and not facts.is_encoder_decoder
    if has_state and version.release < _HYBRID_PREFIXES_SINCE:
        default = False
    asked = settings.flags.get("enable_prefix_caching")
    return default if not isinstance(asked, bool) else asked and looks_up


_HYBRID_PREFIXES_SINCE: Final = (0, 20, 0)
"""Releases before left prefix caching off for models with states unless asked (`is_prefix_caching_supported`)."""


def _blocks(
    facts: ModelFacts, settings: EngineSettings, widths: Widths, capability: Capability, *, keeps_states: bool
) -> _Blocks:
    """Return the block sizes, states included: vllm/platforms/interface.py `update_block_size_for_backend`."""
    kinds = cache_kinds(facts)
    preferred = kernel_block_tokens(kinds, widths, capability, prefix_both_ways=facts.model_type in _PREFIX_BOTH_WAYS)
    tokens = settings.block_size or preferred
    states = [cache for cache in kinds if isinstance(cache, StateCache)]
    if not states:
        return _Blocks(tokens=tokens, state_blocks=0, state_tokens=tokens, state_page_bytes=0)
    aligned = hybrid_block_tokens(kinds, widths, capability, kernel_tokens=tokens, keeps_states=keeps_states)
    tokens = max(tokens, aligned or 0)
    growing = next((cache for cache in kinds if isinstance(cache, (AttentionCache, LatentCache))), None)
    drafts = _speculative_tokens(settings)
    state_blocks = 2 + checkpoint_blocks(states[0], capability) if keeps_states else 1
    return _Blocks(
        tokens=tokens,
        state_blocks=state_blocks + drafts,
        state_tokens=tokens if keeps_states else None,
        state_page_bytes=tokens * _token_bytes(growing, widths) if growing else 0,
    )


_PREFIX_BOTH_WAYS: Final = frozenset({"gemma3", "gemma4", "paligemma", "molmo2"})
"""Multimodal models whose images attend in both directions (`is_mm_prefix_lm` in vllm/config/model.py)."""


def _token_bytes(cache: AttentionCache | LatentCache, widths: Widths) -> int:
    if isinstance(cache, LatentCache):
        return latent_token_bytes(cache, widths)
    return attention_token_bytes(cache, widths)


def _speculative_tokens(settings: EngineSettings) -> int:
    drafts = (settings.speculative or {}).get("num_speculative_tokens")
    return drafts if isinstance(drafts, int) and 0 < drafts < 1024 else 0


def _run_dtype(facts: ModelFacts, stated: str, capability: Capability) -> str:
    """`auto` runs float32 checkpoints in 16 bit: vllm/config/model.py `_resolve_auto_dtype`."""
    if stated != "auto":
        return _DTYPE_NAMES.get(stated, stated)
    if facts.dtype == "float32":
        return "bfloat16" if facts.generates and capability >= AMPERE else "float16"
    return "float16" if facts.dtype == "bfloat16" and capability < AMPERE else facts.dtype


def _kv_cache_dtype(facts: ModelFacts, settings: EngineSettings, capability: Capability) -> str:
    """What `--kv-cache-dtype` becomes: vllm/model_executor/models/config.py and the sparse kernels' own packing."""
    asked = _DTYPE_NAMES.get(settings.kv_cache_dtype, settings.kv_cache_dtype)
    kinds = cache_kinds(facts)
    if any(isinstance(cache, PackedCache) for cache in kinds):
        return PACKED_LATENT
    stated = facts.kv_cache_dtype if asked == "auto" and facts.kv_cache_dtype else asked
    is_sparse = any(isinstance(cache, LatentCache) and cache.sparse for cache in kinds)
    if not is_sparse:
        return stated
    if stated == "auto" and facts.model_type == _FP8_ON_BLACKWELL and is_datacenter_blackwell(capability):
        return "fp8_e4m3"
    return PACKED_LATENT if stated == "fp8" and capability == HOPPER else stated


_FP8_ON_BLACKWELL: Final = "glm_moe_dsa"


def _flag_text(flags: Mapping[str, object], name: str) -> str:
    value = flags.get(name)
    return _DTYPE_NAMES.get(value, value) if isinstance(value, str) and value else "auto"
