"""The different caches of a model: what most questions about its layers come down to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.bounded_memory import Recent

if TYPE_CHECKING:
    from vllm_operator.models.caches import LayerCache
    from vllm_operator.models.facts import ModelFacts

_LAYERS_BY_KIND: Recent[tuple[tuple[LayerCache, tuple[int, ...]], ...]] = Recent(capacity=512)
_KINDS: Recent[tuple[LayerCache, ...]] = Recent(capacity=512)


def cache_kinds(facts: ModelFacts) -> tuple[LayerCache, ...]:
    """Each kind once, in the order of the layers."""
    return _KINDS.get(facts, None, lambda: tuple(cache for cache, _ in layers_by_kind(facts)))


def layers_by_kind(facts: ModelFacts) -> tuple[tuple[LayerCache, tuple[int, ...]], ...]:
    """Each kind with its layers, in the order of the layers; a layer that keeps two such caches is named twice."""
    return _LAYERS_BY_KIND.get(facts, None, lambda: _layers_by_kind(facts))


def _layers_by_kind(facts: ModelFacts) -> tuple[tuple[LayerCache, tuple[int, ...]], ...]:
    layers: dict[LayerCache, list[int]] = {}
    for index, caches in enumerate(facts.caches):
        for cache in caches:
            layers.setdefault(cache, []).append(index)
    return tuple((cache, tuple(found)) for cache, found in layers.items())
