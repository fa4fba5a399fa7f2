"""Weights and layouts computed lately: a search over settings asks for the same ones again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.bounded_memory import Recent
from vllm_operator.models.kv import KvGroup, KvLayout, kv_groups, layout_of
from vllm_operator.models.versions import fit_counts_all_stages
from vllm_operator.models.weights import WeightBytes, weights_by_stage, what_weights_depend_on

if TYPE_CHECKING:
    from collections.abc import Hashable

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
    """`kv_layout`, remembered, groups and all: most settings change the limits alone."""
    of_groups = _what_groups_depend_on(resolved)
    groups = _GROUPS.get(facts, of_groups, lambda: kv_groups(facts, resolved))
    looks_back = any(group.window is not None or group.chunk is not None for group in groups)
    # NB: tokens in flight are reserved by layers that look back so far only; for others any number gives one layout.
    in_flight = resolved.max_in_flight_tokens if looks_back else None
    key = of_groups, in_flight, fit_counts_all_stages(resolved.version)
    return _LAYOUTS.get(facts, key, lambda: layout_of(groups, resolved))


def _what_groups_depend_on(resolved: ResolvedSettings) -> Hashable:
    return (
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
