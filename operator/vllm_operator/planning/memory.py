"""The documented feasibility arithmetic: weights, KV cache and overhead against what vLLM may take of the GPUs.

These formulas are public and meant to be checked with a pocket calculator. They are the floor of every verdict;
`planning.need` puts the sharper prediction of `models.memory` on top of them. Everything is in bytes; GiB appears
in the report only (docs/decisions/0006-units-and-rounding.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from vllm_operator.api.status import FeasibilityReport
from vllm_operator.models.caches import AttentionCache
from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.facts import Device, EngineSettings, ModelFacts
from vllm_operator.models.kv import kv_layout
from vllm_operator.models.settings import resolve_settings
from vllm_operator.planning.plan import OomRisk

if TYPE_CHECKING:
    from vllm_operator.models.kv import KvLayout

__all__ = [
    "BYTES_TO_GIB",
    "GIB",
    "FeasibilityReport",
    "assess_risk",
    "compute_feasibility",
    "compute_kv_cache_memory",
    "compute_max_concurrency_at_context",
    "compute_max_context_at_concurrency",
    "compute_overhead",
    "compute_weights_memory",
]

GIB = 1024**3
BYTES_TO_GIB = GIB
"""Divide bytes by it to get GiB."""

DEFAULT_FRAGMENTATION_FACTOR = 1.15
"""Paged KV blocks are never perfectly full; the documented policy default of `policy.fragmentationFactor`."""

LOW_RISK_HEADROOM_BYTES = 2 * GIB
KV_HEAVY_SHARE = 0.5
"""Above this share of the allocatable memory the KV cache is worth a warning."""

OVERHEAD_MINIMUM_GIB = 1.0
OVERHEAD_SHARE_OF_VRAM = 0.02
OVERHEAD_PER_FURTHER_GPU_GIB = 0.25

_BYTES_PER_PARAMETER = {
    "fp32": 4.0,
    "float32": 4.0,
    "float": 4.0,
    "fp16": 2.0,
    "float16": 2.0,
    "half": 2.0,
    "bf16": 2.0,
    "bfloat16": 2.0,
    "auto": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    # 4 bit plus one 16-bit scale (and zero point) for 128 weights, and the layers that stay in 16 bit.
    "awq": 0.55,
    "awq_marlin": 0.55,
    "gptq": 0.55,
    "gptq_marlin": 0.55,
    "int4": 0.55,
    "bitsandbytes": 0.55,
    # 4 bit plus one 8-bit scale for 32 (MX) or 16 (NV) weights.
    "mxfp4": 0.53125,
    "nvfp4": 0.5625,
    "modelopt_fp4": 0.5625,
}

_KV_BYTES_PER_ELEMENT = {
    "float32": 4.0,
    "float16": 2.0,
    "bfloat16": 2.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "fp8_inc": 1.0,
    "nvfp4": 0.5625,
}
_KV_DTYPE_ALIASES = {"fp16": "float16", "half": "float16", "bf16": "bfloat16", "fp32": "float32", "float": "float32"}


class AttentionFacts(Protocol):
    """What the plain formula reads of a model; `models.facts.ModelFacts` has it."""

    @property
    def num_layers(self) -> int:
        """Layers that keep a KV cache."""

    @property
    def num_kv_heads(self) -> int:
        """Key/value heads of one layer."""

    @property
    def head_dim(self) -> int:
        """Elements of one head."""

    @property
    def dtype(self) -> str:
        """The checkpoint's own dtype."""


def compute_weights_memory(params_b: float, dtype: str = "auto", quantization: str | None = None) -> int:
    """Bytes of a model's weights when only its parameter count (in billions) is known.

    The last resort: exact bytes from safetensors headers win. `quantization` wins over `dtype`. For example 8.03
    billion parameters in bf16 are 16.06e9 bytes = 14.96 GiB, and 70 billion with AWQ are 38.5e9 bytes = 35.86 GiB.

    Raises:
        ValueError: a negative count, or a dtype or quantization that has no figure here.
    """
    if params_b < 0:
        raise ValueError(f"params_b is {params_b}; a model cannot have a negative number of parameters")
    return round(params_b * 1e9 * _bytes_per_parameter(quantization or dtype))


def _bytes_per_parameter(name: str) -> float:
    try:
        return _BYTES_PER_PARAMETER[name.lower()]
    except KeyError:
        known = ", ".join(sorted(_BYTES_PER_PARAMETER))
        raise ValueError(f"no bytes per parameter known for {name!r}; known are {known}") from None


def kv_bytes_per_element(kv_dtype: str, dtype: str) -> float:
    """Bytes of one KV-cache element; `auto` follows the model's dtype, as vLLM does without KV scales in it.

    Raises:
        ValueError: a KV dtype that has no figure here.
    """
    name = dtype if kv_dtype == "auto" else kv_dtype
    name = "bfloat16" if name == "auto" else name
    name = _KV_DTYPE_ALIASES.get(name, name)
    try:
        return _KV_BYTES_PER_ELEMENT[name]
    except KeyError:
        known = ", ".join(sorted(_KV_BYTES_PER_ELEMENT))
        raise ValueError(f"no bytes per KV element known for {name!r}; known are {known}") from None


def compute_kv_cache_memory(
    facts: AttentionFacts,
    context_len: int,
    concurrency: int,
    kv_dtype: str = "auto",
    dtype: str = "auto",
    fragmentation_factor: float = DEFAULT_FRAGMENTATION_FACTOR,
    *,
    layout: KvLayout | None = None,
) -> int:
    """Bytes of KV cache that `concurrency` sequences of `context_len` tokens need on one GPU.

    For plain attention 2 (keys and values) × KV heads × head size × layers × context × concurrency × bytes per element,
    times the fragmentation factor. MLA, sliding windows, hybrid state and shared KV follow vLLM's own block arithmetic
    instead, on one GPU; give the `layout` (from `models.kv.kv_layout`) of other settings, such as tensor parallelism.
    For example Llama-3.1-8B (8 KV heads of 128, 32 layers) at 8192 tokens × 8 in bf16: 8.0 GiB × 1.15 = 9.2 GiB.

    Raises:
        ValueError: a negative length, concurrency or factor, or an unknown dtype.
    """
    if min(context_len, concurrency) < 0 or fragmentation_factor < 0:
        raise ValueError(
            f"context_len ({context_len}), concurrency ({concurrency}) and fragmentation_factor "
            f"({fragmentation_factor}) must not be negative"
        )
    layout = layout or _own_layout(facts, kv_dtype, dtype)
    if layout is not None:
        return round(layout.bytes_one_sequence(context_len) * concurrency * fragmentation_factor)
    element_bytes = kv_bytes_per_element(kv_dtype, facts.dtype if dtype == "auto" else dtype)
    elements = 2 * facts.num_kv_heads * facts.head_dim * facts.num_layers * context_len * concurrency
    return round(elements * element_bytes * fragmentation_factor)


_LAYOUT_DEVICE = Device(product=None, memory_bytes=80 * GIB)
"""Stands for any large GPU: what a layout takes of it is vLLM's batch size, which sliding windows reserve for."""


def _own_layout(facts: AttentionFacts, kv_dtype: str, dtype: str) -> KvLayout | None:
    """vLLM's layout of a model with other layers than plain attention; None where the plain formula is right."""
    if not isinstance(facts, ModelFacts) or _is_plain(facts):
        return None
    settings = EngineSettings(dtype=_KV_DTYPE_ALIASES.get(dtype, dtype), kv_cache_dtype=kv_dtype)
    try:
        return kv_layout(facts, resolve_settings(facts, settings, _LAYOUT_DEVICE))
    except ModelConfigError as error:
        raise ValueError(str(error)) from error


def _is_plain(facts: ModelFacts) -> bool:
    plain = AttentionCache(num_kv_heads=facts.num_kv_heads, head_size=facts.head_dim, head_size_v=facts.head_dim)
    return not facts.caches or facts.caches == ((plain,),) * facts.num_layers


def compute_overhead(vram_total_bytes: int, tp_size: int = 1, fixed_overhead_gb: float | None = None) -> int:
    """Bytes that a tensor-parallel group takes besides weights and KV cache.

    `vram_total_bytes` is that of the whole group. A fixed value wins; else max(1.0, 0.02 × VRAM) + 0.25 × (tp − 1) GiB:
    80 GiB alone give 1.6 GiB, 80 GiB over 4 GPUs 2.35 GiB.

    Raises:
        ValueError: a negative size or a group without a GPU.
    """
    if tp_size < 1:
        raise ValueError(f"tp_size is {tp_size}; a group has at least one GPU")
    if vram_total_bytes < 0 or (fixed_overhead_gb is not None and fixed_overhead_gb < 0):
        raise ValueError("vram_total_bytes and fixed_overhead_gb must not be negative")
    if fixed_overhead_gb is not None:
        return round(fixed_overhead_gb * GIB)
    share_gib = max(OVERHEAD_MINIMUM_GIB, OVERHEAD_SHARE_OF_VRAM * vram_total_bytes / GIB)
    return round((share_gib + OVERHEAD_PER_FURTHER_GPU_GIB * (tp_size - 1)) * GIB)


def assess_risk(headroom_bytes: int) -> OomRisk:
    """Grade what is left after everything is placed: Low from 2 GiB, Medium from 0, High below."""
    if headroom_bytes >= LOW_RISK_HEADROOM_BYTES:
        return OomRisk.LOW
    return OomRisk.MEDIUM if headroom_bytes >= 0 else OomRisk.HIGH


def compute_feasibility(
    weights_bytes: int,
    kv_cache_bytes: int,
    overhead_bytes: int,
    vram_total_bytes: int,
    gpu_memory_utilization: float = 0.90,
    headroom_gb: float = 1.0,
    context_len: int = 4096,
    concurrency: int = 1,
    facts: AttentionFacts | None = None,
    kv_dtype: str = "auto",
    dtype: str = "auto",
    fragmentation_factor: float = DEFAULT_FRAGMENTATION_FACTOR,
    *,
    layout: KvLayout | None = None,
    max_model_len: int | None = None,
) -> FeasibilityReport:
    """Judge one GPU (or, with all figures summed, one group) by the documented arithmetic.

    Allocatable = VRAM × utilization, required = weights + KV cache + overhead, headroom = the difference. All figures
    must be of the same thing: never one rank's weights against the whole group's memory.
    Without `facts` or `layout` the two trade-off figures are 0.
    """
    allocatable_bytes = int(vram_total_bytes * gpu_memory_utilization)
    required_bytes = weights_bytes + kv_cache_bytes + overhead_bytes
    headroom_bytes = allocatable_bytes - required_bytes
    fits = headroom_bytes >= headroom_gb * GIB
    risk = assess_risk(headroom_bytes)
    max_concurrency = max_context = 0
    if facts is not None:
        room = (allocatable_bytes, weights_bytes, overhead_bytes, facts)
        knobs = (kv_dtype, dtype, fragmentation_factor)
        max_concurrency = compute_max_concurrency_at_context(*room, context_len, *knobs, layout=layout)
        max_context = compute_max_context_at_concurrency(
            *room, concurrency, *knobs, layout=layout, max_model_len=max_model_len
        )
    return FeasibilityReport(
        fits=fits,
        oom_risk=risk.value,
        vram_total_gb=vram_total_bytes / GIB,
        vram_target_alloc_gb=allocatable_bytes / GIB,
        weights_gb=weights_bytes / GIB,
        kv_cache_gb=kv_cache_bytes / GIB,
        overhead_gb=overhead_bytes / GIB,
        headroom_gb=max(0.0, headroom_bytes / GIB),
        max_concurrency_at_context=max_concurrency,
        max_context_at_concurrency=max_context,
        warnings=_warnings(
            fits=fits,
            risk=risk,
            required_bytes=required_bytes,
            allocatable_bytes=allocatable_bytes,
            headroom_gb=headroom_gb,
            kv_cache_bytes=kv_cache_bytes,
        ),
    )


def _warnings(
    *,
    fits: bool,
    risk: OomRisk,
    required_bytes: int,
    allocatable_bytes: int,
    headroom_gb: float,
    kv_cache_bytes: int,
) -> list[str]:
    warnings = []
    if not fits:
        warnings.append(
            f"does not fit: required {required_bytes / GIB:.2f} GiB plus {headroom_gb:.2f} GiB headroom, "
            f"available {allocatable_bytes / GIB:.2f} GiB"
        )
    if risk is OomRisk.HIGH:
        warnings.append("high risk of running out of GPU memory: use a shorter context or quantization")
    elif risk is OomRisk.MEDIUM:
        warnings.append("medium risk of running out of GPU memory: monitor memory use under load")
    if allocatable_bytes > 0 and kv_cache_bytes > KV_HEAVY_SHARE * allocatable_bytes:
        warnings.append(
            f"the KV cache takes {kv_cache_bytes / allocatable_bytes:.0%} of the allocatable memory: "
            "use an FP8 KV cache or a shorter context"
        )
    return warnings


def compute_max_concurrency_at_context(
    allocatable_bytes: int,
    weights_bytes: int,
    overhead_bytes: int,
    facts: AttentionFacts,
    context_len: int,
    kv_dtype: str = "auto",
    dtype: str = "auto",
    fragmentation_factor: float = DEFAULT_FRAGMENTATION_FACTOR,
    *,
    layout: KvLayout | None = None,
) -> int:
    """How many sequences of `context_len` tokens the memory left for KV cache holds; never below 0."""
    available_bytes = allocatable_bytes - weights_bytes - overhead_bytes
    sequence_bytes = compute_kv_cache_memory(
        facts, context_len, 1, kv_dtype, dtype, fragmentation_factor, layout=layout
    )
    if available_bytes <= 0 or sequence_bytes <= 0:
        return 0
    return available_bytes // sequence_bytes


def compute_max_context_at_concurrency(
    allocatable_bytes: int,
    weights_bytes: int,
    overhead_bytes: int,
    facts: AttentionFacts,
    concurrency: int,
    kv_dtype: str = "auto",
    dtype: str = "auto",
    fragmentation_factor: float = DEFAULT_FRAGMENTATION_FACTOR,
    *,
    layout: KvLayout | None = None,
    max_model_len: int | None = None,
) -> int:
    """How many tokens each of `concurrency` sequences may have; never below 0.

    For plain attention bytes are proportional to tokens and one division answers. A layout counts whole blocks and
    fixed state, so there the answer is searched for. It is at most `max_model_len` when that is given.
    """
    available_bytes = allocatable_bytes - weights_bytes - overhead_bytes
    if available_bytes <= 0 or concurrency <= 0:
        return 0
    layout = layout or _own_layout(facts, kv_dtype, dtype)
    if layout is not None:
        per_sequence_bytes = int(available_bytes / (concurrency * fragmentation_factor))
        return longest_context(layout, per_sequence_bytes, max_model_len)
    token_bytes = compute_kv_cache_memory(facts, 1, 1, kv_dtype, dtype, 1.0) * fragmentation_factor
    longest = int(available_bytes / token_bytes) // concurrency if token_bytes > 0 else 0
    return longest if max_model_len is None else min(longest, max_model_len)


LONGEST_SEARCHED_CONTEXT = 1 << 24
"""16 Mi tokens: beyond every published model, it bounds the search where no model length is given."""


def longest_context(layout: KvLayout, per_sequence_bytes: int, max_model_len: int | None = None) -> int:
    """The longest sequence whose KV cache is at most `per_sequence_bytes`; bytes never fall with length."""
    low, high = 0, max_model_len or LONGEST_SEARCHED_CONTEXT
    while low < high:
        middle = (low + high + 1) // 2
        if layout.bytes_one_sequence(middle) <= per_sequence_bytes:
            low = middle
        else:
            high = middle - 1
    return low
