"""Bytes of one layer's cache on one GPU: per token for what grows, per sequence for what does not.

Sources: `page_size_bytes` of the specs in vllm/v1/kv_cache_interface.py; packed formats in
vllm/v1/attention/backends/mla/flashmla_sparse.py and vllm/model_executor/layers/quantization/turboquant@0.33.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.models.errors import ModelConfigError

if TYPE_CHECKING:
    from vllm_operator.models.caches import AttentionCache, IndexerCache, LatentCache, StateCache

ELEMENT_BYTES: Final = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "fp8_inc": 1,
    "fp8_ds_mla": 1,
}
PACKED_LATENT: Final = "fp8_ds_mla"
PACKED_LATENT_BYTES: Final = 656
"""One token of `fp8_ds_mla`: 512 FP8 elements, 4 float32 scales, 64 rotary elements in 16 bit."""

_SCALE_BYTES: Final = 4
_PER_TOKEN_HEAD_BITS: Final = {"int8_per_token_head": 8, "fp8_per_token_head": 8, "int4_per_token_head": 4}
_NVFP4: Final = frozenset({"nvfp4", "nvfp4_4over6"})
_NVFP4_GROUP: Final = 16
TURBOQUANT_BITS: Final = {
    "turboquant_k8v4": (8, 4),
    "turboquant_4bit_nc": (4, 4),
    "turboquant_k3v4_nc": (3, 4),
    "turboquant_3bit_nc": (3, 3),
}
"""Bits of one key and one value element; 8-bit keys are FP8 and carry no norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """What turns elements into bytes on one GPU."""

    tensor_parallel_size: int
    dtype: str
    """The model's own, resolved."""
    kv_cache_dtype: str
    """As resolved: `auto` is the model's."""
    state_dtype: str = "auto"
    """`--mamba-ssm-cache-dtype`."""
    conv_dtype: str = "auto"
    """`--mamba-cache-dtype`."""
    drafted_tokens: int = 0
    """`num_speculative_tokens`."""

    @property
    def kv_dtype(self) -> str:
        """The data type of keys and values."""
        return self.dtype if self.kv_cache_dtype == "auto" else self.kv_cache_dtype


def element_bytes(dtype: str) -> int:
    """Return the bytes of one plain element.

    Raises:
        ModelConfigError: the data type is not known here.
    """
    size = ELEMENT_BYTES.get(dtype)
    if size is None:
        raise ModelConfigError("kv_cache_dtype", f"no element size known for {dtype!r}")
    return size


def heads_on_one_gpu(heads: int, tensor_parallel_size: int) -> int:
    """Return key/value heads per rank: divided, and held whole by several ranks where there are too few."""
    return max(1, heads // tensor_parallel_size)


def attention_token_bytes(cache: AttentionCache, widths: Widths, *, protected: bool = False) -> int:
    """Return the bytes of one token's keys and values; `protected` layers keep the model's dtype."""
    heads = heads_on_one_gpu(cache.num_kv_heads, widths.tensor_parallel_size)
    dtype = widths.kv_dtype if cache.follows_kv_dtype and not protected else widths.dtype
    return heads * (_head_bytes(dtype, cache.head_size, cache.head_size_v))


def _head_bytes(dtype: str, keys: int, values: int) -> int:
    bits = _PER_TOKEN_HEAD_BITS.get(dtype)
    if bits:
        return (keys + values) * bits // 8 + 2 * _SCALE_BYTES
    if dtype in _NVFP4:
        return sum(size // 2 + size // _NVFP4_GROUP for size in (keys, values))
    if dtype in TURBOQUANT_BITS:
        return _turboquant_slot_bytes(keys, *TURBOQUANT_BITS[dtype])
    return (keys + values) * element_bytes(dtype)


def _turboquant_slot_bytes(size: int, key_bits: int, value_bits: int) -> int:
    """Packed keys with a 16-bit norm, packed values with scale and zero, rounded up to an even number."""
    keys = size if key_bits == 8 else -(-size * key_bits // 8) + 2
    slot = keys + -(-size * value_bits // 8) + 4
    return slot + slot % 2


def latent_token_bytes(cache: LatentCache, widths: Widths) -> int:
    """Return the bytes of one token's latent vector."""
    if widths.kv_dtype == PACKED_LATENT:
        return PACKED_LATENT_BYTES
    return cache.width * element_bytes(widths.kv_dtype)


def indexer_token_bytes(cache: IndexerCache, widths: Widths) -> int:
    """Return the bytes of one token's key in a sparse-attention indexer."""
    return cache.width if cache.packed else cache.width * element_bytes(widths.dtype)


def state_bytes(cache: StateCache, widths: Widths) -> int:
    """Return the bytes of one sequence's state in one layer.

    Groups that the ranks do not divide are held once per rank (mamba_utils.py `extra_groups_for_head_shards`).
    """
    size = widths.tensor_parallel_size
    groups = cache.groups if cache.groups % size == 0 else size
    channels = (cache.conv_channels + groups * cache.group_channels) // size
    conv_dtype = widths.dtype if widths.conv_dtype == "auto" else widths.conv_dtype
    stated = cache.state_dtype if cache.state_dtype_is_fixed or widths.state_dtype == "auto" else widths.state_dtype
    state_dtype = conv_dtype if stated == "auto" else stated
    rows = cache.conv_rows + (widths.drafted_tokens if cache.keeps_drafts else 0)
    recurrent = cache.heads // size * cache.head_elements
    return rows * channels * element_bytes(conv_dtype) + recurrent * element_bytes(state_dtype)
