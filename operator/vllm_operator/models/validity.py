"""Which parallelism and which kernels vLLM refuses for a model, and why.

Sources: `verify_with_parallel_config` in vllm/config/model.py, `QKVParallelLinear` in
vllm/model_executor/layers/linear.py, attention selection in vllm/platforms/cuda.py@0.33.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.models.bounded_memory import Recent
from vllm_operator.models.cache_kinds import cache_kinds
from vllm_operator.models.caches import AttentionCache, LatentCache, StateCache
from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.gpu_generation import ADA, HOPPER, capability_of, is_datacenter_blackwell
from vllm_operator.models.recent import recent_layout
from vllm_operator.models.settings import ResolvedSettings, resolve_settings
from vllm_operator.models.stages import stages_of
from vllm_operator.models.versions import EngineVersion, parse_version
from vllm_operator.models.weights.fields import integer, section, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.models.facts import Device, EngineSettings, ModelFacts

_NATIVE_FP8: Final = frozenset({"fp8", "fp8_e4m3", "fp8_per_token_head"})
_BLACKWELL_ONLY: Final = frozenset({"nvfp4", "nvfp4_4over6", "nvfp4_ds_mla"})
_GROUPED: Final = frozenset({"awq", "awq_marlin", "gptq", "gptq_marlin"})
_PADDED_TOWERS: Final = ("internvl", "interns1", "skywork", "nvlm", "h2ovl")
"""Families whose tower takes heads that ranks do not divide (intern_vit.py adds dummy heads)."""
_LEFT_FOR_PLUGINS: Final = frozenset({"bitsandbytes", "gguf"})
_PLUGINS_SINCE: Final = (0, 33, 0)


def parallelism_problems(facts: ModelFacts, settings: EngineSettings | ResolvedSettings) -> tuple[str, ...]:
    """Return why vLLM would refuse these sizes; empty when it would not."""
    key = (
        settings.tensor_parallel_size,
        settings.pipeline_parallel_size,
        settings.decode_context_parallel_size,
        settings.enable_expert_parallel,
        repr(settings.flags) if settings.flags else None,
    )
    return _PROBLEMS.get(facts, key, lambda: _parallelism_problems(facts, settings))


_PROBLEMS: Recent[tuple[str, ...]] = Recent(capacity=2048)


def _parallelism_problems(facts: ModelFacts, settings: EngineSettings | ResolvedSettings) -> tuple[str, ...]:
    problems = [*_head_problems(facts, settings.tensor_parallel_size)]
    problems += _state_problems(facts, settings.tensor_parallel_size)
    problems += _quantized_group_problems(facts, settings.tensor_parallel_size)
    problems += _tower_problems(facts, settings)
    stages, context = settings.pipeline_parallel_size, settings.decode_context_parallel_size
    if stages > facts.num_layers:
        problems.append(f"pipeline-parallel-size {stages} is greater than the model's {facts.num_layers} layers")
    elif (misfit := stages_of(stages, _release(settings), settings.flags).problem(facts.num_layers)) is not None:
        problems.append(misfit)
    if context > 1:
        problems += _context_problems(facts, settings.tensor_parallel_size, context)
    if settings.enable_expert_parallel and not facts.num_experts:
        problems.append("expert parallelism needs a mixture-of-experts model; this one is dense")
    return tuple(problems)


def _release(settings: EngineSettings | ResolvedSettings) -> EngineVersion:
    return settings.version if isinstance(settings, ResolvedSettings) else parse_version(settings.version)


def kernel_problems(facts: ModelFacts, settings: EngineSettings, device: Device) -> tuple[str, ...]:
    """Return why no kernel of vLLM could run this model with these settings on this GPU; empty when one can."""
    try:
        resolved = resolve_settings(facts, settings, device)
        recent_layout(facts, resolved)
    except ModelConfigError as error:
        return (str(error),)
    return problems_of_laid_out(facts, resolved, device)


def problems_of_laid_out(facts: ModelFacts, resolved: ResolvedSettings, device: Device) -> tuple[str, ...]:
    """`kernel_problems` of settings whose caches are known to have a layout."""
    method = resolved.quantization
    key = (
        device.product,
        device.compute_capability,
        resolved.dtype,
        resolved.kv_cache_dtype,
        method,
        resolved.version if method in _LEFT_FOR_PLUGINS else None,
    )
    return _KERNEL_PROBLEMS.get(facts, key, lambda: tuple(_kernel_problems(facts, resolved, device)))


_KERNEL_PROBLEMS: Recent[tuple[str, ...]] = Recent(capacity=2048)


def _kernel_problems(facts: ModelFacts, resolved: ResolvedSettings, device: Device) -> Iterator[str]:
    capability, kv_dtype = capability_of(device), resolved.kv_cache_dtype
    card = f"{device.product or 'this GPU'} (compute capability {capability[0]}.{capability[1]})"
    latent = [cache for cache in cache_kinds(facts) if isinstance(cache, LatentCache)]
    grows = any(not isinstance(cache, StateCache) for cache in cache_kinds(facts))
    if grows and kv_dtype in _NATIVE_FP8 and capability < ADA:
        yield f"kv_cache_dtype {kv_dtype} needs compute capability 8.9 or more, not {card}; set it to auto"
    if kv_dtype in _BLACKWELL_ONLY and not is_datacenter_blackwell(capability):
        yield f"kv_cache_dtype {kv_dtype} needs a Blackwell GPU of compute capability 10.x, not {card}"
    if any(cache.sparse for cache in latent):
        if capability < HOPPER:
            yield f"sparse latent attention needs compute capability 9.0 or more, not {card}"
        elif capability == HOPPER and kv_dtype == "fp8_e4m3":
            yield f"sparse latent attention takes no {kv_dtype} KV cache on {card}; set kv_cache_dtype to fp8"
    if resolved.dtype == "float32":
        if latent:
            yield "latent attention has no float32 kernel; set dtype to bfloat16"
        if (resolved.quantization or "").endswith("mxfp4"):
            yield "MXFP4 weights run in bfloat16 only; set dtype to bfloat16"
    method = resolved.quantization or ""
    stated = resolved.version.stated and resolved.version.release >= _PLUGINS_SINCE
    if method in _LEFT_FOR_PLUGINS and stated:
        yield f"quantization {method} is no longer part of vLLM {resolved.version}; an image with its plugin is needed"


def _head_problems(facts: ModelFacts, size: int) -> Iterator[str]:
    heads = facts.num_attention_heads
    if heads % size:
        yield f"tensor-parallel-size {size} does not divide the model's {heads} attention heads"
        return
    counts = {cache.num_kv_heads for cache in cache_kinds(facts) if isinstance(cache, AttentionCache)}
    for kv_heads in sorted(counts):
        if kv_heads % size and size % kv_heads:
            yield (
                f"tensor-parallel-size {size} neither divides the model's {kv_heads} key/value heads nor is a multiple"
            )


def _state_problems(facts: ModelFacts, size: int) -> Iterator[str]:
    """`MambaMixer2` and the delta nets divide heads over ranks; groups are divided or, if one, copied."""
    for cache in cache_kinds(facts):
        if not isinstance(cache, StateCache):
            continue
        if cache.heads % size:
            yield f"tensor-parallel-size {size} does not divide the {cache.heads} heads of the model's state layers"
        elif cache.groups > 1 and cache.groups % size:
            yield f"tensor-parallel-size {size} does not divide the {cache.groups} groups of the model's state layers"


def _tower_problems(facts: ModelFacts, settings: EngineSettings | ResolvedSettings) -> Iterator[str]:
    """The vision tower is divided like the rest, unless it is left out or runs whole on each rank."""
    flags, size = settings.flags, settings.tensor_parallel_size
    tower = section(facts.config, "vision_config")
    heads = integer(tower, "num_heads", "num_attention_heads")
    whole = flags.get("language_model_only") is True or flags.get("mm_encoder_tp_mode") == "data"
    if heads % size and not whole and not facts.model_type.startswith(_PADDED_TOWERS):
        yield (
            f"tensor-parallel-size {size} does not divide the {heads} heads of the vision tower; "
            "--mm-encoder-tp-mode data keeps it whole"
        )


def _quantized_group_problems(facts: ModelFacts, size: int) -> Iterator[str]:
    """A rank's share of a row-parallel weight must hold whole quantization groups (awq, gptq)."""
    stated = section(facts.config, "quantization_config")
    group = integer(stated, "group_size")
    if text(stated, "quant_method").lower() not in _GROUPED or group < 2 or size == 1 or facts.num_experts:
        return
    inner = integer(facts.config, "intermediate_size")
    if inner and inner // size % group:
        yield (
            f"tensor-parallel-size {size} leaves {inner // size} of {inner} intermediate columns to a GPU, "
            f"not a multiple of the quantization group of {group}"
        )


def _context_problems(facts: ModelFacts, size: int, context: int) -> Iterator[str]:
    if size % context:
        yield f"decode-context-parallel-size {context} does not divide tensor-parallel-size {size}"
        return
    heads = [cache.num_kv_heads for cache in cache_kinds(facts) if isinstance(cache, AttentionCache)]
    if heads and size // context < max(heads):
        yield (
            f"decode-context-parallel-size {context} needs the {max(heads)} key/value heads to be held "
            f"at least {context} times, so a tensor-parallel-size of {max(heads) * context} or more"
        )
