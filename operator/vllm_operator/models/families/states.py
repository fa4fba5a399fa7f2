"""The fixed state that a layer without a growing cache keeps per sequence.

Source of the shapes: vllm/model_executor/layers/mamba/mamba_utils.py `MambaStateShapeCalculator`@0.33.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.models.caches import StateCache
from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.families.heads import attention_heads, head_size, hidden_size, required
from vllm_operator.models.weights.fields import integer, number, section, text

if TYPE_CHECKING:
    from vllm_operator.models.weights.fields import Config

GATED_DELTA_CHECKPOINT_TOKENS: Final = 64
"""Chunk of the gated-delta and Kimi-delta prefill kernels, which keep a checkpoint only at its multiples."""
_NO_CHECKPOINT_IN: Final = frozenset({"KimiLinearForCausalLM"})
_NO_CHECKPOINT_OF: Final = frozenset({"olmo_hybrid"})
"""Families of gated-delta layers with a kernel of their own that keeps no checkpoint within a prefill."""

_STATE_DTYPES: Final = {"nemotron_h": "float32"}
"""What a family keeps its state in when its config does not say (vllm/model_executor/models/config.py)."""
_LIGHTNING: Final = ("minimax", "bailing")
"""Families of lightning attention, whose state is a square for each head, in the model's dtype."""


def state_cache(config: Config, *, architecture: str) -> StateCache:
    """Return what one state layer of this model keeps.

    Raises:
        ModelConfigError: the config has none of the fields of a state that is known here.
    """
    if section(config, "linear_attn_config"):
        return _kimi_delta(section(config, "linear_attn_config"), architecture)
    if integer(config, "linear_num_value_heads"):
        return _gated_delta(config)
    if integer(config, "conv_L_cache"):
        width = integer(config, "conv_dim", "block_dim") or hidden_size(config)
        return StateCache(conv_rows=required(config, "conv_L_cache") - 1, conv_channels=width)
    if integer(config, "mamba_d_state", "ssm_state_size", "state_size"):
        return _mamba(config)
    if text(config, "model_type").startswith(_LIGHTNING):
        # BailingHybridConfig sets `head_dim` to the rotary part of its latent attention.
        latent = integer(config, "qk_rope_head_dim") if integer(config, "kv_lora_rank") else 0
        heads, size = attention_heads(config), latent or head_size(config)
        return StateCache(heads=heads, head_elements=size * size)
    raise ModelConfigError(
        "layer_types", f"{architecture} has layers with a state whose size no field known here states"
    )


def _kimi_delta(linear: Config, architecture: str) -> StateCache:
    """Queries, keys and values each pass a short convolution; the recurrent state is always float32."""
    heads, size = required(linear, "num_heads"), required(linear, "head_dim")
    return StateCache(
        conv_rows=integer(linear, "short_conv_kernel_size", default=4) - 1,
        conv_channels=3 * heads * size,
        heads=heads,
        head_elements=size * size,
        state_dtype="float32",
        state_dtype_is_fixed=True,
        keeps_drafts=True,
        checkpoint_alignment=None if architecture in _NO_CHECKPOINT_IN else GATED_DELTA_CHECKPOINT_TOKENS,
        checkpoint_needs_hopper=True,
    )


def _gated_delta(config: Config) -> StateCache:
    keys = required(config, "linear_num_key_heads") * required(config, "linear_key_head_dim")
    heads = required(config, "linear_num_value_heads")
    value_size = required(config, "linear_value_head_dim")
    is_plain = text(config, "model_type") in _NO_CHECKPOINT_OF
    return StateCache(
        conv_rows=integer(config, "linear_conv_kernel_dim", default=4) - 1,
        conv_channels=2 * keys + heads * value_size,
        heads=heads,
        head_elements=value_size * required(config, "linear_key_head_dim"),
        state_dtype=text(config, "mamba_ssm_dtype", "mamba_ssm_cache_dtype") or "auto",
        keeps_drafts=True,
        checkpoint_alignment=None if is_plain else GATED_DELTA_CHECKPOINT_TOKENS,
        checkpoint_needs_hopper=True,
    )


def _mamba(config: Config) -> StateCache:
    state = required(config, "mamba_d_state", "ssm_state_size", "state_size")
    rows = integer(config, "mamba_d_conv", "conv_kernel", "d_conv", default=4) - 1
    is_alone = text(config, "model_type") == "mamba2"
    own = ("num_heads",) if is_alone else ("mamba_n_heads", "mamba_num_heads", "n_mamba_heads")
    heads = required(config, *own) if is_alone else integer(config, *own)
    if not heads:
        return _first_generation(config, rows, state)
    size_names = ("mamba_d_head", "mamba_head_dim", "mamba_headdim", "hidden_size_per_head")
    # `head_dim` is attention's, unless there is none; "auto" and absence mean the inner width over the heads.
    size = integer(config, *size_names, *(("head_dim",) if is_alone else ())) or _inner_width(config) // heads
    groups = integer(config, "mamba_n_groups", "mamba_ngroups", "n_groups", default=0 if _is_plamo2(config) else 1)
    return StateCache(
        conv_rows=rows,
        conv_channels=heads * size,
        groups=groups,
        group_channels=2 * state,
        heads=heads,
        head_elements=size * state,
        state_dtype=text(config, "mamba_ssm_cache_dtype") or _STATE_DTYPES.get(text(config, "model_type"), "auto"),
        keeps_drafts=True,
        checkpoint_alignment=None if _is_plamo2(config) else 1,
    )


def _first_generation(config: Config, rows: int, state: int) -> StateCache:
    inner = _inner_width(config)
    return StateCache(conv_rows=rows, conv_channels=inner, heads=inner, head_elements=state)


def _inner_width(config: Config) -> int:
    stated = integer(config, "mamba_d_ssm", "intermediate_size" if _is_pure(config) else "mamba_d_ssm")
    if stated:
        return stated
    expand = number(config, "mamba_expand", default=0) or number(config, "expand", default=2)
    return int(min(expand, 1024) * hidden_size(config))


def _is_pure(config: Config) -> bool:
    return text(config, "model_type") in {"mamba", "falcon_mamba"}


def _is_plamo2(config: Config) -> bool:
    return text(config, "model_type") == "plamo2"
