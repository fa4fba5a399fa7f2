"""DeepSeek-V4: a sliding window in each layer, and compressed caches with their compressors' states beside it.

All pages are packed rows of fixed bytes, aligned for TMA. Sources: vllm/models/deepseek_v4 (attention, compressor,
indexer)@0.33.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.models.caches import PackedCache
from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.families.heads import layer_count, required
from vllm_operator.models.weights.fields import integer, items

if TYPE_CHECKING:
    from vllm_operator.models.caches import LayerCache, ModelCaches
    from vllm_operator.models.weights.fields import Config

ALIGNMENT_BYTES: Final = 576
BLOCK_TOKENS: Final = 256
_WINDOW_BLOCK_TOKENS: Final = 64
_SCALE_GROUP: Final = 64
"""Elements without rotary positions that share one scale in the packed row."""
_FLOAT32_BYTES: Final = 4


def compressed_caches(config: Config) -> ModelCaches:
    """Return the caches of each layer.

    Raises:
        ModelConfigError: `compress_ratios` or a size is missing.
    """
    layers = layer_count(config)
    ratios = [ratio if isinstance(ratio, int) and 0 <= ratio <= BLOCK_TOKENS else -1 for ratio in _ratios(config)]
    if len(ratios) < layers or min(ratios) < 0:
        raise ModelConfigError("compress_ratios", f"must hold a ratio from 0 to {BLOCK_TOKENS} for each layer")
    return tuple(_layer(config, ratio) for ratio in ratios[:layers])


def packed_row_bytes(head_size: int, rotary: int) -> int:
    """Bytes of one `fp8_ds_mla` row: FP8 elements, rotary part in 16 bit, a scale byte per group and one of padding.

    For head size 512 with 64 rotary: 448 + 128 + 8 = 584.
    """
    plain = head_size - rotary
    return plain + 2 * rotary + -(-plain // _SCALE_GROUP) + 1


def _ratios(config: Config) -> tuple[object, ...]:
    return items(config, "compress_ratios")[:4096]


def _layer(config: Config, ratio: int) -> tuple[LayerCache, ...]:
    size, rotary = required(config, "head_dim"), integer(config, "qk_rope_head_dim")
    row = packed_row_bytes(size, rotary)
    window = required(config, "sliding_window")
    caches: list[LayerCache] = [
        PackedCache(block_size=_WINDOW_BLOCK_TOKENS, page_bytes=_aligned(_WINDOW_BLOCK_TOKENS * row), window=window)
    ]
    if ratio <= 1:
        return tuple(caches)
    caches.append(PackedCache(block_size=BLOCK_TOKENS, page_bytes=_aligned(BLOCK_TOKENS // ratio * row)))
    caches.append(_compressor_state(size, ratio))
    if ratio == _INDEXED_RATIO:
        index_size = required(config, "index_head_dim")
        index_row = index_size + index_size // 128 * _FLOAT32_BYTES
        caches.append(PackedCache(block_size=BLOCK_TOKENS, page_bytes=_aligned(BLOCK_TOKENS // ratio * index_row)))
        caches.append(_compressor_state(index_size, ratio))
    return tuple(caches)


_INDEXED_RATIO: Final = 4
"""Lightly compressed layers are sparse: an indexer picks their rows, and neighbouring blocks overlap."""


def _compressor_state(size: int, ratio: int) -> PackedCache:
    """Keys, values and scores of tokens not yet compressed, in float32; overlapping blocks need both neighbours."""
    overlap = 2 if ratio == _INDEXED_RATIO else 1
    block = 4 if ratio == _INDEXED_RATIO else 8
    page = block * 2 * overlap * size * _FLOAT32_BYTES
    return PackedCache(block_size=block, page_bytes=_aligned(page), window=overlap * ratio)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
