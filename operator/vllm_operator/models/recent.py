"""Weights and layouts computed lately: a search over settings asks for the same ones again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.bounded_memory import Recent
from vllm_operator.models.kv import KvGroup, KvLayout, kv_groups, layout_of
from vllm_operator.models.weights import WeightBytes, weights_by_stage, what_weights_depend_on

if TYPE_CHECKING:
    from vllm_operator.models.facts import Device, ModelFacts
    from vllm_operator.models.settings import ResolvedSettings

_WEIGHTS: Recent[tuple[WeightBytes, ...]] = Recent(capacity=4096)
_GROUPS: Recent[tuple[KvGroup, ...]] = Recent(capacity=4096)
_LAYOUTS: Recent[KvLayout] = Recent(capacity=512)


def recent_weights(facts: ModelFacts, resolved: ResolvedSettings, device: Device) -> tuple[WeightBytes, ...]:
    """`weights_by_stage`, remembered."""
    key = what_weights_depend_on(resolved, device)
    return _WEIGHTS.get(facts, key, lambda: weights_by_stage(facts, resolved, device))


def recent_layout(facts: ModelFacts, resolved: ResolvedSettings) -> KvLayout:
    """`kv_layout`, remembered: by all settings but the utilization, LoRA and eager mode, on which no layout depends."""
    key = (
        resolved.version,
        resolved.tensor_parallel_size,
        resolved.stages,
        resolved.data_parallel_size,
        resolved.decode_context_parallel_size,
        resolved.max_model_len,
        resolved.max_num_seqs,
        resolved.max_num_batched_tokens,
        resolved.max_in_flight_tokens,
        resolved.dtype,
        resolved.kv_cache_dtype,
        resolved.block_size,
        resolved.state_blocks,
        resolved.state_block_size,
        resolved.state_page_bytes,
        resolved.enable_prefix_caching,
        resolved.hybrid_kv_cache_manager,
        repr(resolved.speculative) if resolved.speculative else None,
        repr(resolved.flags) if resolved.flags else None,
    )
    return _LAYOUTS.get(facts, key, lambda: layout_of(_recent_groups(facts, resolved), resolved))


def _recent_groups(facts: ModelFacts, resolved: ResolvedSettings) -> tuple[KvGroup, ...]:
    """`kv_groups`, remembered: most settings change the limits alone."""
    key = (
        resolved.widths,
        resolved.stages,
        resolved.decode_context_parallel_size,
        resolved.kv_cache_dtype,
        resolved.block_size,
        resolved.state_blocks,
        resolved.state_block_size,
        resolved.state_page_bytes,
        resolved.hybrid_kv_cache_manager,
        resolved.max_num_encoder_input_tokens,
        repr(resolved.speculative) if resolved.speculative else None,
    )
    return _GROUPS.get(facts, key, lambda: kv_groups(facts, resolved))
