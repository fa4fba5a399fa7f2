"""Tokens per KV-cache block, as the attention kernel and the state layers make vLLM choose it.

Sources: vllm/platforms/interface.py `update_block_size_for_backend` and `_align_hybrid_block_size`, kernel block sizes
under vllm/v1/attention/backends@0.33.0, and start-ups of that version for each family and GPU.
"""

from __future__ import annotations

from math import lcm
from typing import TYPE_CHECKING, Final

from vllm_operator.models.caches import AttentionCache, IndexerCache, LatentCache, PackedCache, StateCache
from vllm_operator.models.gpu_generation import HOPPER, is_datacenter_blackwell
from vllm_operator.models.pages import TURBOQUANT_BITS, attention_token_bytes, latent_token_bytes, state_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.models.caches import LayerCache
    from vllm_operator.models.gpu_generation import Capability
    from vllm_operator.models.pages import Widths

DEFAULT_BLOCK_TOKENS: Final = 16
_SPARSE_LATENT_TOKENS: Final = 64
_FLASH_MLA_TOKENS: Final = 64
_FLASHINFER_MLA_TOKENS: Final = 32
_SPARSE_ATTENTION_TOKENS: Final = 128
_TURBOQUANT_TOKENS: Final = 32
_HYBRID_LATENT_ALIGNMENT: Final = 128
"""Covers every latent-attention kernel, CUTLASS included, whichever is chosen."""
_LARGEST_FLASH_HEAD: Final = 256


def kernel_block_tokens(
    caches: Iterable[LayerCache], widths: Widths, capability: Capability, *, prefix_both_ways: bool
) -> int:
    """Return the block size that the attention kernels prefer when none is asked for.

    `prefix_both_ways`: images attend in both directions, which only the Triton kernels can do.
    """
    kinds = set(caches)
    packed = [cache.block_size for cache in kinds if isinstance(cache, PackedCache)]
    if packed:
        return max(packed)
    if any(isinstance(cache, IndexerCache) and not cache.packed for cache in kinds):
        return _SPARSE_ATTENTION_TOKENS
    latent = [cache for cache in kinds if isinstance(cache, LatentCache)]
    if latent:
        return _latent_block_tokens(sparse=latent[0].sparse, widths=widths, capability=capability)
    if widths.kv_dtype in TURBOQUANT_BITS:
        return _TURBOQUANT_TOKENS
    largest = max((cache.head_size for cache in kinds if isinstance(cache, AttentionCache)), default=0)
    is_fp8 = widths.kv_dtype.startswith("fp8")
    if capability == HOPPER and is_fp8 and largest > _LARGEST_FLASH_HEAD:
        return 64
    if is_datacenter_blackwell(capability) and largest == _LARGEST_FLASH_HEAD and not (is_fp8 or prefix_both_ways):
        return 128
    return DEFAULT_BLOCK_TOKENS


def _latent_block_tokens(*, sparse: bool, widths: Widths, capability: Capability) -> int:
    """FlashMLA serves FP8 on Hopper in blocks of 64, FlashInfer all of Blackwell in 32, the rest takes 16."""
    if sparse:
        return _SPARSE_LATENT_TOKENS
    if is_datacenter_blackwell(capability):
        return _FLASHINFER_MLA_TOKENS
    if capability == HOPPER and widths.kv_dtype != widths.dtype:
        return _FLASH_MLA_TOKENS
    return DEFAULT_BLOCK_TOKENS


def checkpoint_blocks(cache: StateCache, capability: Capability) -> int:
    """Return the blocks per sequence in which a prefill keeps a checkpoint of its state."""
    if cache.checkpoint_alignment is None:
        return 0
    return int(not cache.checkpoint_needs_hopper or capability == HOPPER or is_datacenter_blackwell(capability))


def hybrid_block_tokens(
    caches: Iterable[LayerCache], widths: Widths, capability: Capability, *, kernel_tokens: int, keeps_states: bool
) -> int | None:
    """Return the block size at which one attention page holds one state; None where no layer pair needs it.

    `keeps_states`: prefix caching stores states at block ends, so that blocks must also end where a checkpoint can be.
    """
    kinds = list(dict.fromkeys(caches))
    states = [cache for cache in kinds if isinstance(cache, StateCache)]
    growing = [cache for cache in kinds if isinstance(cache, (AttentionCache, LatentCache))]
    if not states or not growing:
        return None
    is_latent = isinstance(growing[0], LatentCache)
    alignment = max(kernel_tokens, _HYBRID_LATENT_ALIGNMENT) if is_latent else kernel_tokens
    if keeps_states and checkpoint_blocks(states[0], capability):
        alignment = lcm(alignment, states[0].checkpoint_alignment or 1)
    token_bytes = _token_bytes(growing[0], widths)
    needed = max(state_bytes(state, widths) for state in states)
    return alignment * -(-needed // (alignment * token_bytes))


def _token_bytes(cache: AttentionCache | LatentCache, widths: Widths) -> int:
    if isinstance(cache, LatentCache):
        return latent_token_bytes(cache, widths)
    return attention_token_bytes(cache, widths)
