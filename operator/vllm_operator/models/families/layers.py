"""The caches of each layer of a model, by its family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.models.caches import AttentionCache, CrossCache, IndexerCache, LatentCache, StateCache
from vllm_operator.models.families.compressed import compressed_caches
from vllm_operator.models.families.heads import (
    attention_heads,
    head_size,
    kv_heads,
    latent_width,
    layer_count,
)
from vllm_operator.models.families.kinds import LayerKind, layer_kinds
from vllm_operator.models.families.states import state_cache
from vllm_operator.models.weights.fields import flag, integer, items, section, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_operator.models.caches import LayerCache, ModelCaches
    from vllm_operator.models.weights.fields import Config

INDEXER_SCALE_BYTES: Final = 4
_INDEXER_GROUP: Final = 128
_IGNORES_KV_DTYPE: Final = frozenset({"falcon"})
"""falcon.py builds its attention without the cache config: block size 16 and the model's dtype, whatever is asked."""
_PLAIN_ATTENTION_DESPITE_RANK: Final = frozenset({"minicpm3"})
"""minicpm3.py unpacks its latents and caches plain keys and values, padded to the query's size."""
_TWO_ATTENTIONS_PER_LAYER: Final = frozenset({"longcat_flash"})


def model_caches(config: Config, *, architecture: str) -> ModelCaches:
    """Return what each layer keeps, first layer first. Layers that read another layer's cache have none.

    Raises:
        ModelConfigError: a field without which no cache can be computed is missing.
    """
    if items(config, "compress_ratios"):
        return compressed_caches(config)
    if flag(config, "is_encoder_decoder"):
        return _encoder_decoder(config)
    layers = layer_count(config)
    if items(config, "block_configs"):
        return _individual(config, layers)
    kinds = layer_kinds(config, layers=layers)
    shared = integer(config, "num_kv_shared_layers")
    attention = _attention_by_kind(config, kinds)
    states = {LayerKind.STATE, LayerKind.BOTH} & set(kinds)
    state: tuple[LayerCache, ...] = (state_cache(config, architecture=architecture),) if states else ()
    by_kind: dict[LayerKind, tuple[LayerCache, ...]] = {
        **attention,
        LayerKind.STATE: state,
        LayerKind.BOTH: (*attention.get(LayerKind.FULL, ()), *state),
        LayerKind.NEITHER: (),
    }
    indexers = _indexers(config, layers)
    caches: list[tuple[LayerCache, ...]] = []
    for index, kind in enumerate(kinds):
        if index >= layers - shared:
            caches.append(())
            continue
        own = by_kind[kind] * (2 if text(config, "model_type") in _TWO_ATTENTIONS_PER_LAYER else 1)
        caches.append(own + indexers[index] if kind is not LayerKind.STATE else own)
    return tuple(caches)


def draft_caches(config: Config, caches: ModelCaches) -> tuple[LayerCache, ...]:
    """Return what the checkpoint's own draft layers (MTP) keep: each repeats the last layer that attends to everything.

    They count only when speculative decoding uses them.
    """
    count = integer(config, "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
    for layer in reversed(caches):
        own = tuple(cache for cache in layer if not isinstance(cache, StateCache))
        if own and not any(isinstance(cache, AttentionCache) and (cache.window or cache.chunk) for cache in own):
            return own * min(count, _MOST_DRAFT_LAYERS)
    return ()


_MOST_DRAFT_LAYERS: Final = 64


def _attention_by_kind(config: Config, kinds: Sequence[LayerKind]) -> dict[LayerKind, tuple[LayerCache, ...]]:
    """The attention of each kind that occurs; a model without attention needs none of its fields."""
    present = set(kinds)
    if not present & {LayerKind.FULL, LayerKind.SLIDING, LayerKind.CHUNKED, LayerKind.BOTH}:
        return {}
    if latent_width(config) and text(config, "model_type") not in _PLAIN_ATTENTION_DESPITE_RANK:
        latent = LatentCache(width=latent_width(config), sparse=bool(integer(config, "index_topk")))
        return dict.fromkeys((LayerKind.FULL, LayerKind.SLIDING, LayerKind.CHUNKED), (latent,))
    full, local = _plain(config), _windowed(config)
    follows = text(config, "model_type").lower() not in _IGNORES_KV_DTYPE
    window = integer(config, "sliding_window", "sliding_window_size", "window_size") or None
    chunk = integer(config, "attention_chunk_size") or None

    def cache(sizes: tuple[int, int, int], window: int | None = None, chunk: int | None = None) -> AttentionCache:
        heads, size, size_v = sizes
        return AttentionCache(
            num_kv_heads=heads, head_size=size, head_size_v=size_v, window=window, chunk=chunk, follows_kv_dtype=follows
        )

    return {
        LayerKind.FULL: (cache(full),),
        LayerKind.SLIDING: (cache(local, window=window),),
        LayerKind.CHUNKED: (cache(full, chunk=chunk),),
    }


def _plain(config: Config) -> tuple[int, int, int]:
    shares_values = flag(config, "attention_k_eq_v", default=True)  # gemma4.py: only then are global heads fewer
    heads = (integer(config, "num_global_key_value_heads") if shares_values else 0) or kv_heads(config)
    size = integer(config, "global_head_dim") or head_size(config)
    if text(config, "model_type") in _PLAIN_ATTENTION_DESPITE_RANK:
        size = integer(config, "qk_nope_head_dim") + integer(config, "qk_rope_head_dim")
        return attention_heads(config), size, size
    return heads, size, integer(config, "v_head_dim") or size


def _windowed(config: Config) -> tuple[int, int, int]:
    other = section(config, "attention_other_setting")
    heads = integer(config, "swa_num_key_value_heads") or integer(other, "num_attention_groups") or kv_heads(config)
    size = integer(config, "swa_head_dim") or integer(other, "head_dim") or head_size(config)
    return heads, size, integer(config, "swa_v_head_dim", "v_head_dim") or size


def _individual(config: Config, layers: int) -> ModelCaches:
    """Layers that each state their own attention, or none (nemotron_nas.py)."""
    size = head_size(config)
    caches: list[tuple[LayerCache, ...]] = []
    for block in items(config, "block_configs")[:layers]:
        attention = section(block, "attention") if isinstance(block, dict) else {}
        if flag(attention, "no_op") or flag(attention, "replace_with_linear"):
            caches.append(())
            continue
        ratio = integer(attention, "n_heads_in_group")
        heads = attention_heads(config) // ratio if ratio else integer(attention, "num_key_value_heads")
        cache = AttentionCache(num_kv_heads=heads or kv_heads(config), head_size=size, head_size_v=size)
        caches.append((cache,))
    return tuple(caches)


def _encoder_decoder(config: Config) -> ModelCaches:
    """Self attention and cross attention in each decoder layer (whisper.py)."""
    heads, size = kv_heads(config), head_size(config)
    own = AttentionCache(num_kv_heads=heads, head_size=size, head_size_v=size)
    return ((own, CrossCache(num_kv_heads=heads, head_size=size)),) * layer_count(config)


def _indexers(config: Config, layers: int) -> list[tuple[LayerCache, ...]]:
    """The indexer's cache of each layer that has one of its own."""
    sparse = section(config, "sparse_attention_config")
    frequency = items(sparse, "sparse_attention_freq")
    if len(frequency) >= layers:  # minimax_m3.py: keys in the model's dtype
        cache = IndexerCache(width=integer(sparse, "sparse_index_dim", default=128), packed=False)
        return [(cache,) if mark else () for mark in frequency[:layers]]
    if not integer(config, "index_topk"):
        return [()] * layers
    size = integer(config, "index_head_dim", default=128)
    row = size + size // _INDEXER_GROUP * INDEXER_SCALE_BYTES
    indexer = (IndexerCache(width=row, packed=True),)
    return [indexer if own else () for own in _has_indexer(config, layers)]


def _has_indexer(config: Config, layers: int) -> list[bool]:
    """Whether each layer picks its own tokens; the others share the pick of a layer below (deepseek_v2.py)."""
    types = items(config, "indexer_types")
    if len(types) >= layers:
        return [kind == "full" for kind in types[:layers]]
    pattern = config.get("index_topk_pattern")
    if isinstance(pattern, (str, list, tuple)) and len(pattern) >= layers:
        return [mark in ("F", "full") for mark in pattern[:layers]]
    frequency = integer(config, "index_topk_freq") or 1
    offset = integer(config, "index_skip_topk_offset", default=2)
    return [max(index - offset + 1, 0) % frequency == 0 for index in range(layers)]
