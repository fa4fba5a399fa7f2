"""Which kind each layer is: stated layer by layer, by a pattern, or the same for all.

Sources: the model classes under vllm/model_executor/models/@0.33.0; one comment per rule names its class.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from vllm_operator.models.weights.fields import flag, integer, items, section, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_operator.models.weights.fields import Config


class LayerKind(StrEnum):
    """What mixes tokens in a layer."""

    FULL = "Full"
    SLIDING = "Sliding"
    CHUNKED = "Chunked"
    STATE = "State"
    BOTH = "Both"
    """Attention and a state beside each other (Falcon-H1, the hybrid layers of Zamba2)."""
    NEITHER = "Neither"
    """Only a feed-forward part, or attention left out."""


_BY_NAME: Final = {
    "full_attention": LayerKind.FULL,
    "attention": LayerKind.FULL,
    "global_attention": LayerKind.FULL,
    "global": LayerKind.FULL,
    "full": LayerKind.FULL,
    "deepseek_sparse_attention": LayerKind.FULL,
    "sparse_attention": LayerKind.FULL,
    "minimax_m3_sparse": LayerKind.FULL,
    "sliding_attention": LayerKind.SLIDING,
    "sliding_window_attention": LayerKind.SLIDING,
    "local_attention": LayerKind.SLIDING,
    "local": LayerKind.SLIDING,
    "swa": LayerKind.SLIDING,
    "chunked_attention": LayerKind.CHUNKED,
    "linear_attention": LayerKind.STATE,
    "linear": LayerKind.STATE,
    "mamba": LayerKind.STATE,
    "mamba2": LayerKind.STATE,
    "conv": LayerKind.STATE,
    "short_conv": LayerKind.STATE,
    "recurrent": LayerKind.STATE,
    "kda": LayerKind.STATE,
    "hybrid": LayerKind.BOTH,
    "moe": LayerKind.NEITHER,
    "mlp": LayerKind.NEITHER,
}
_BY_LETTER: Final = {"M": LayerKind.STATE, "*": LayerKind.FULL, "-": LayerKind.NEITHER, "E": LayerKind.NEITHER}
"""`hybrid_override_pattern` of Nemotron-H."""

_SLIDING_EXCEPT_EACH: Final = {
    "gemma2": 2,
    "gemma3": 6,
    "gemma3_text": 6,
    "gemma3n": 5,
    "gemma3n_text": 5,
    "cohere2": 4,
    "gpt_oss": 2,
    "exaone4": 4,
    "olmo3": 4,
    "afmoe": 4,
}
"""Each such layer is full where a config leaves its class's own pattern out (defaults of transformers' configs)."""

_ATTENTION_FREE: Final = frozenset({"mamba", "mamba2", "falcon_mamba"})
_BOTH_IN_EACH_LAYER: Final = frozenset({"falcon_h1"})


def layer_kinds(config: Config, *, layers: int) -> Sequence[LayerKind]:
    """Return the kind of each layer, first layer first."""
    family = text(config, "model_type")
    if family in _ATTENTION_FREE:
        return [LayerKind.STATE] * layers
    if family in _BOTH_IN_EACH_LAYER:
        return [LayerKind.BOTH] * layers
    return _recurrent(config, layers) or _stated(config, layers) or _windowed(config, family, layers)


def unknown_kinds(config: Config) -> tuple[str, ...]:
    """Return the names of layer kinds that are not known here, which are counted as full attention."""
    stated = {str(kind) for kind in items(config, "layer_types", "layers_block_type")[:4096]}
    return tuple(sorted(stated - _BY_NAME.keys()))[:8]


def _recurrent(config: Config, layers: int) -> list[LayerKind] | None:
    """Families that mix attention with states and have a field of their own for it."""
    pattern = text(config, "hybrid_override_pattern")
    if pattern:  # nemotron_h.py
        return [_BY_LETTER.get(letter, LayerKind.NEITHER) for letter in pattern[:layers]]
    linear = section(config, "linear_attn_config")
    if linear and items(linear, "kda_layers"):  # kimi_linear.py; layers are counted from one
        return _at(layers, [index - 1 for index in _indices(items(linear, "kda_layers"))], LayerKind.STATE)
    types = items(config, "attn_type_list")
    if len(types) >= layers:  # minimax_text_01.py
        return [LayerKind.FULL if mark == 1 else LayerKind.STATE for mark in types[:layers]]
    if integer(config, "attn_layer_period"):  # jamba.py
        period, offset = integer(config, "attn_layer_period"), integer(config, "attn_layer_offset")
        return [LayerKind.FULL if index % period == offset else LayerKind.STATE for index in range(layers)]
    attention = items(config, "attn_layer_indices")
    if attention:  # bamba.py
        return _at(layers, _indices(attention), LayerKind.FULL, otherwise=LayerKind.STATE)
    if integer(config, "mamba_step"):  # plamo2.py is_mamba
        return _plamo2(layers, integer(config, "mamba_step"))
    group = integer(config, "layer_group_size")
    if group > 1:  # bailing_moe_linear.py
        last_group = layers // group * group
        full = [index for index in range(layers) if (index + 1) % group == 0 or index >= last_group]
        return _at(layers, full, LayerKind.FULL, otherwise=LayerKind.STATE)
    interval = integer(config, "full_attention_interval")
    if interval and not items(config, "layer_types"):  # qwen3_next.py
        return _at(layers, list(range(interval - 1, layers, interval)), LayerKind.FULL, otherwise=LayerKind.STATE)
    if items(config, "hybrid_layer_ids"):  # zamba2.py; the other layers are states alone
        return _at(layers, _indices(items(config, "hybrid_layer_ids")), LayerKind.BOTH, otherwise=LayerKind.STATE)
    convolutional = integer(config, "conv_L_cache") and not items(config, "layer_types")
    if convolutional and items(config, "full_attn_idxs"):  # lfm2.py
        return _at(layers, _indices(items(config, "full_attn_idxs")), LayerKind.FULL, otherwise=LayerKind.STATE)
    return None


def _stated(config: Config, layers: int) -> list[LayerKind] | None:
    stated = items(config, "layer_types", "layers_block_type")
    if len(stated) >= layers:
        return [_BY_NAME.get(str(kind), LayerKind.FULL) for kind in stated[:layers]]
    hybrid = items(config, "hybrid_layer_pattern")
    if len(hybrid) >= layers:  # mimo_v2_flash.py
        return [LayerKind.SLIDING if mark else LayerKind.FULL for mark in hybrid[:layers]]
    return None


def _windowed(config: Config, family: str, layers: int) -> list[LayerKind]:
    if integer(config, "attention_chunk_size") and family.startswith("llama4"):
        return _llama4(config, layers)
    windowed = integer(config, "sliding_window") and flag(config, "use_sliding_window", default=True)
    if not windowed:
        return [LayerKind.FULL] * layers
    letters = text(config, "sliding_window_pattern")
    if letters:  # exaone4.py: "LLLG"
        marks = [
            LayerKind.SLIDING if letters[index % len(letters)] == "L" else LayerKind.FULL for index in range(layers)
        ]
        return [*marks[:-1], LayerKind.FULL]
    pattern = integer(config, "sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers")
    pattern = pattern or _SLIDING_EXCEPT_EACH.get(family, 0)
    if pattern:
        return [LayerKind.FULL if (index + 1) % pattern == 0 else LayerKind.SLIDING for index in range(layers)]
    return [LayerKind.SLIDING] * layers


def _llama4(config: Config, layers: int) -> list[LayerKind]:
    """Layers without rotary positions see everything, the others one chunk (llama4.py)."""
    rotary = items(config, "no_rope_layers")
    if len(rotary) >= layers:
        return [LayerKind.CHUNKED if mark else LayerKind.FULL for mark in rotary[:layers]]
    interval = integer(config, "no_rope_layer_interval") or 4
    return [LayerKind.FULL if (index + 1) % interval == 0 else LayerKind.CHUNKED for index in range(layers)]


def _plamo2(layers: int, step: int) -> list[LayerKind]:
    if layers <= step // 2:
        return [*[LayerKind.STATE] * (layers - 1), LayerKind.FULL]
    return [LayerKind.FULL if index % step == step // 2 else LayerKind.STATE for index in range(layers)]


def _at(layers: int, where: list[int], kind: LayerKind, otherwise: LayerKind = LayerKind.FULL) -> list[LayerKind]:
    chosen = set(where)
    return [kind if index in chosen else otherwise for index in range(layers)]


def _indices(values: Sequence[object]) -> list[int]:
    return [value for value in values[:4096] if isinstance(value, int)]
