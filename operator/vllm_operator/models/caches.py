"""What each layer of a model keeps for a sequence: the kinds that vLLM's KV-cache planner tells apart.

Read from the config by fields, not by model names. Source of the kinds: vllm/v1/kv_cache_interface.py@0.33.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.weights.fields import flag, integer, items, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_operator.models.weights.fields import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCache:
    """Keys and values of one attention layer; `window` and `chunk` in tokens where the layer does not look further."""

    num_kv_heads: int
    head_size: int
    head_size_v: int
    window: int | None = None
    chunk: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentCache:
    """Compressed keys and values of multi-head latent attention: one vector per token, the same on every rank."""

    width: int
    indexer_bytes: int = 0
    """Bytes per token of the sparse-attention indexer's own cache in this layer (0: none)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCache:
    """A fixed state per sequence (state-space and linear-attention layers), in elements before tensor parallelism."""

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]


LayerCache = AttentionCache | LatentCache | StateCache

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"


def layer_caches(config: Config, *, architecture: str) -> tuple[LayerCache, ...]:
    """Return what each layer with a cache of its own keeps, first layer first.

    Layers that read another layer's cache (`num_kv_shared_layers`) have none.

    Raises:
        ModelConfigError: a field without which no cache can be computed is missing.
    """
    layers = required(config, "num_hidden_layers", "n_layer", "num_layers", "n_layers")
    own = max(0, layers - integer(config, "num_kv_shared_layers"))
    if latent_width(config):
        return tuple(LatentCache(width=latent_width(config)) for _ in range(own))
    kinds = layer_kinds(config, layers=layers, architecture=architecture)
    window = integer(config, "sliding_window", "sliding_window_size") or None
    chunk = integer(config, "attention_chunk_size") or None
    full = _plain(config)
    local = _windowed(config)
    found = {
        FULL: AttentionCache(num_kv_heads=full[0], head_size=full[1], head_size_v=full[2]),
        SLIDING: AttentionCache(num_kv_heads=local[0], head_size=local[1], head_size_v=local[2], window=window),
        CHUNKED: AttentionCache(num_kv_heads=full[0], head_size=full[1], head_size_v=full[2], chunk=chunk),
    }
    return tuple(found[kind] for kind in kinds[:own])


def required(config: Config, *names: str) -> int:
    """Return the first of the named fields that is a positive integer.

    Raises:
        ModelConfigError: none of them is there.
    """
    value = integer(config, *names)
    if value <= 0:
        raise ModelConfigError(names[0], "missing or not a positive number; no KV cache can be computed without it")
    return value


def attention_heads(config: Config) -> int:
    """Return the number of query heads, by any of the names in use."""
    return required(config, "num_attention_heads", "n_head", "n_heads", "num_heads")


def kv_heads(config: Config) -> int:
    """Return the number of key/value heads: stated, one for multi-query, else one per query head."""
    if flag(config, "multi_query") and not flag(config, "new_decoder_architecture"):
        return integer(config, "multi_query_group_num") or 1
    names = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "multi_query_group_num")
    return integer(config, *names) or attention_heads(config)


def head_size(config: Config) -> int:
    """Return the size of one head: stated, else hidden size over heads (wrong for many models that do state it)."""
    stated = integer(config, "head_dim", "attention_head_dim", "kv_channels")
    return stated or required(config, "hidden_size", "n_embd", "d_model") // attention_heads(config)


def latent_width(config: Config) -> int:
    """Return the elements per token of a latent-attention cache, 0 for other models."""
    rank = integer(config, "kv_lora_rank")
    return rank + integer(config, "qk_rope_head_dim") if rank else 0


def layer_kinds(config: Config, *, layers: int, architecture: str) -> Sequence[str]:
    """Return the kind of each layer: stated by `layer_types`, by a pattern, or one kind for all."""
    stated = [str(kind) for kind in items(config, "layer_types")]
    if len(stated) >= layers:
        return [_KINDS.get(kind, FULL) for kind in stated[:layers]]
    hybrid = items(config, "hybrid_layer_pattern")
    if len(hybrid) >= layers:
        return [SLIDING if mark else FULL for mark in hybrid[:layers]]
    if integer(config, "attention_chunk_size") and text(config, "model_type").startswith("llama4"):
        return [FULL if (index + 1) % 4 == 0 else CHUNKED for index in range(layers)]
    if not integer(config, "sliding_window") or not flag(config, "use_sliding_window", default=True):
        return [FULL] * layers
    pattern = integer(config, "sliding_window_pattern", "_sliding_window_pattern") or _PATTERNS.get(architecture, 0)
    if pattern:
        return [FULL if (index + 1) % pattern == 0 else SLIDING for index in range(layers)]
    return [SLIDING] * layers


_KINDS = {
    "full_attention": FULL,
    "sliding_attention": SLIDING,
    "chunked_attention": CHUNKED,
    "local_attention": SLIDING,
    "global_attention": FULL,
}
_PATTERNS = {
    "Gemma2ForCausalLM": 2,
    "Gemma3ForCausalLM": 6,
    "Gemma3ForConditionalGeneration": 6,
    "Cohere2ForCausalLM": 4,
}
"""Layers of which the last is full, where a config may leave its class's default out (transformers' config classes)."""


def _plain(config: Config) -> tuple[int, int, int]:
    heads = integer(config, "num_global_key_value_heads") or kv_heads(config)
    size = integer(config, "global_head_dim") or head_size(config)
    return heads, size, integer(config, "v_head_dim") or size


def _windowed(config: Config) -> tuple[int, int, int]:
    heads = integer(config, "swa_num_key_value_heads") or kv_heads(config)
    size = integer(config, "swa_head_dim") or head_size(config)
    return heads, size, integer(config, "swa_v_head_dim", "v_head_dim") or size
