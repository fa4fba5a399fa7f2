"""The different caches of a model: what most questions about its layers come down to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.bounded_memory import Recent

if TYPE_CHECKING:
    from vllm_operator.models.caches import LayerCache
    from vllm_operator.models.facts import ModelFacts

_KINDS: Recent[tuple[LayerCache, ...]] = Recent(capacity=256)


def cache_kinds(facts: ModelFacts) -> tuple[LayerCache, ...]:
    """Each kind once, in the order of the layers."""
    return _KINDS.get(facts, None, lambda: tuple(dict.fromkeys(cache for caches in facts.caches for cache in caches)))
