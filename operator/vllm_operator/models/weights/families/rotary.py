"""Tables of cosines and sines that vLLM keeps beside the parameters; part of what it reports as loaded.

Source: vLLM 0.33 `layers/rotary_embedding/` (`RotaryEmbeddingBase._compute_cos_sin_cache` and its variants).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.weights.fields import integer, number, section, text

if TYPE_CHECKING:
    from vllm_operator.models.weights.fields import Config

_WITHOUT_ROTARY = frozenset({"gpt2", "gpt_bigcode", "opt", "bloom", "mpt", "mamba", "mamba2", "jamba", "nemotron_h"})
_MROPE_POSITIONS = 4
"""MRotaryEmbedding makes its table four times as long unless the sections are interleaved."""


def rotary_tables(config: Config, *, head_dim: int) -> tuple[tuple[int, int], ...]:
    """Positions and width of each distinct table of a model."""
    if text(config, "model_type") in _WITHOUT_ROTARY:
        return ()
    positions = integer(config, "max_position_embeddings")
    width = _width(config, head_dim)
    scaling = section(config, "rope_scaling", "rope_parameters")
    full = (_positions(scaling, positions), width)
    if "sliding_window_pattern" in config or text(config, "model_type").startswith("gemma3"):
        # Local layers have a table of their own, with another base and no scaling.
        return full, (positions, width)
    if integer(config, "index_n_heads") and text(config, "model_type") == "deepseek_v32":
        return full, full
    return (full,)


def _width(config: Config, head_dim: int) -> int:
    direct = integer(config, "qk_rope_head_dim", "rotary_dim")
    if direct:
        return direct
    parameters = section(config, "rope_parameters")
    partial = number(config, "partial_rotary_factor", default=number(parameters, "partial_rotary_factor", default=1.0))
    return int(head_dim * partial) if 0 < partial <= 1 else head_dim


def _positions(scaling: Config, positions: int) -> int:
    kind = text(scaling, "rope_type", "type")
    factor = number(scaling, "factor", default=1.0)
    original = integer(scaling, "original_max_position_embeddings")
    if kind == "yarn" and original and 1 <= factor < 10_000:
        return int(original * factor)
    if kind in ("linear", "dynamic") and 1 <= factor < 10_000:
        return int(positions * factor)
    if kind in ("longrope", "su"):
        return positions + original
    if "mrope_section" in scaling and "mrope_interleaved" not in scaling:
        return positions * _MROPE_POSITIONS
    return positions
