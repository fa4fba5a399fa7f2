"""What a layer of a model keeps for a sequence: the kinds that vLLM's KV-cache planner tells apart.

All are stated for the whole model, before tensor parallelism and before a data type is chosen; `models.pages` turns
them into bytes on one GPU. Source of the kinds: vllm/v1/kv_cache_interface.py@0.33.0.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCache:
    """Keys and values of one attention layer; `window` and `chunk` in tokens where the layer does not look further."""

    num_kv_heads: int
    head_size: int
    head_size_v: int
    window: int | None = None
    chunk: int | None = None
    follows_kv_dtype: bool = True
    """False for the few model classes that never pass `--kv-cache-dtype` on to their layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossCache:
    """Keys and values of the encoder's states in a layer of an encoder-decoder model."""

    num_kv_heads: int
    head_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentCache:
    """Compressed keys and values of multi-head latent attention: one vector per token, the same on every rank."""

    width: int
    sparse: bool = False
    """Whether an indexer picks the tokens to attend to, which decides the kernel and so the packing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexerCache:
    """Keys by which sparse attention picks tokens, one vector per token, the same on every rank."""

    width: int
    """Elements per token, or bytes where `packed`."""
    packed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedCache:
    """A page of fixed bytes whatever the settings (DeepSeek-V4): `block_size` tokens in `page_bytes`."""

    block_size: int
    page_bytes: int
    window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCache:
    """A fixed state per sequence (state-space, linear-attention and short-convolution layers).

    The convolution's window is `conv_rows` x (`conv_channels` + groups x `group_channels`), the recurrent state
    `heads` x `head_elements`; heads, channels and groups are divided over the ranks.
    """

    conv_rows: int = 0
    conv_channels: int = 0
    groups: int = 0
    group_channels: int = 0
    heads: int = 0
    head_elements: int = 0
    state_dtype: str = "auto"
    """Data type of the recurrent state; `auto` is the model's."""
    state_dtype_is_fixed: bool = False
    keeps_drafts: bool = False
    """Whether the convolution's window also holds the drafted tokens of speculative decoding."""
    checkpoint_alignment: int | None = None
    """Tokens to which the kernel that keeps a checkpoint within a prefill aligns blocks; None: it keeps none."""
    checkpoint_needs_hopper: bool = False


LayerCache = AttentionCache | CrossCache | LatentCache | IndexerCache | PackedCache | StateCache
ModelCaches = tuple[tuple[LayerCache, ...], ...]
"""The caches of each layer, first layer first; a layer that keeps nothing has none."""
