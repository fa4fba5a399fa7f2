"""Layers into groups that share a block table, as vLLM's planner cuts them.

Source: `get_kv_cache_groups` in vllm/v1/core/kv_cache_planning.py@0.33.0. Each function here follows one there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from vllm_operator.models.errors import ModelConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ONE_WIDE_GROUP: Final = 1.5
"""Below this ratio of largest to smallest bucket, padding the smaller one beats cutting both."""


class SpecKind(StrEnum):
    """How many blocks a sequence takes of a layer."""

    FULL = "Full"
    SLIDING = "Sliding"
    CHUNKED = "Chunked"
    STATE = "State"
    CROSS = "Cross"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """The pages of layers that are alike. Layers with equal `content` may share a group of one page size."""

    layers: tuple[int, ...]
    """First layer first; a layer that keeps two such caches is named twice."""
    kind: SpecKind
    block_size: int
    page_bytes: int
    content: tuple[object, ...] = ()
    window: int | None = None
    chunk: int | None = None
    is_latent: bool = False
    is_packed: bool = False
    reserved_blocks: int = 0
    """Blocks per sequence whatever its length (states)."""

    @property
    def reach(self) -> tuple[object, ...]:
        """What decides the blocks of a sequence; layers that agree in it can share one block table."""
        return self.kind, self.block_size, self.window, self.chunk, self.reserved_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecGroup:
    """Layers that share a block table."""

    specs: tuple[LayerSpec, ...]

    @property
    def count(self) -> int:
        """Number of layers."""
        return _count(self.specs)


def group_layers(specs: Sequence[LayerSpec], *, hybrid: bool) -> tuple[SpecGroup, ...]:
    """Return the groups; `hybrid` False is `--disable-hybrid-kv-cache-manager`.

    Raises:
        ModelConfigError: vLLM cannot give these layers one layout, so it would not start.
    """
    if not specs:
        return ()
    if not hybrid:
        specs = _promoted(specs)
    if len({spec.reach for spec in specs}) == 1:
        return (SpecGroup(specs=tuple(specs)),)
    if any(spec.is_packed for spec in specs):
        return _packed_groups(specs)
    if _cannot_share_pages(specs):
        return (SpecGroup(specs=tuple(_promoted(specs))),)
    return _cut(_of_one_page_size(specs))


def _promoted(specs: Sequence[LayerSpec]) -> Sequence[LayerSpec]:
    """`_promote_local_kv_cache_specs`: local layers keep everything, like the full ones beside them."""
    if len({spec.reach for spec in specs}) == 1:
        return specs
    block_sizes = {spec.block_size for spec in specs if spec.kind is SpecKind.FULL}
    local = (SpecKind.SLIDING, SpecKind.CHUNKED)
    promoted = [_as_full(spec, block_sizes) if block_sizes and spec.kind in local else spec for spec in specs]
    if len({spec.reach for spec in promoted}) != 1:
        raise ModelConfigError(
            "disable_hybrid_kv_cache_manager",
            "this model mixes layers that vLLM cannot give one kind of cache; leave the hybrid manager on",
        )
    return promoted


def _as_full(spec: LayerSpec, block_sizes: set[int]) -> LayerSpec:
    block = next(iter(block_sizes)) if len(block_sizes) == 1 else spec.block_size
    page = spec.page_bytes * block // spec.block_size
    return replace(spec, kind=SpecKind.FULL, block_size=block, page_bytes=page, window=None, chunk=None)


def _cannot_share_pages(specs: Sequence[LayerSpec]) -> bool:
    """Latent pages cannot be padded, only multiplied (`unify_kv_cache_spec_page_size`)."""
    largest = max(spec.page_bytes for spec in specs)
    return any(spec.is_latent and largest % spec.page_bytes for spec in specs)


def _of_one_page_size(specs: Sequence[LayerSpec]) -> list[LayerSpec]:
    """`unify_kv_cache_spec_page_size`: smaller pages take more tokens where that divides, else they are padded."""
    largest = max(spec.page_bytes for spec in specs)
    unified = []
    for spec in specs:
        ratio, rest = divmod(largest, spec.page_bytes)
        grows = spec.kind is not SpecKind.STATE and not rest
        block = spec.block_size * ratio if grows else spec.block_size
        unified.append(replace(spec, block_size=block, page_bytes=largest))
    return unified


def _cut(specs: Sequence[LayerSpec]) -> tuple[SpecGroup, ...]:
    """`_get_kv_cache_groups_uniform_page_size`: groups of equal layer count, the short ones padded."""
    buckets: dict[tuple[object, ...], list[LayerSpec]] = {}
    for spec in specs:
        buckets.setdefault((spec.reach, spec.content), []).append(spec)
    counts = [_count(bucket) for bucket in buckets.values()]
    smallest, largest = min(counts), max(counts)
    size = largest if largest < smallest * _ONE_WIDE_GROUP else smallest
    return tuple(
        SpecGroup(specs=dealt)
        for bucket, count in zip(buckets.values(), counts, strict=True)
        for dealt in _deal(bucket, -(-count // size))
    )


def _packed_groups(specs: Sequence[LayerSpec]) -> tuple[SpecGroup, ...]:
    """`_get_packed_kv_cache_groups`: pages of different sizes side by side in one block."""
    buckets: dict[tuple[object, ...], list[LayerSpec]] = {}
    for spec in specs:
        buckets.setdefault(spec.reach, []).append(spec)
    repeats = _repeats_per_group(list(buckets.values()))
    groups = []
    for bucket in buckets.values():
        by_page = _by_page(bucket)
        parts = 1
        if repeats and _is_balanced(by_page):
            parts = -(-max(map(_count, by_page.values())) // repeats)
        dealt = [_deal(same, parts) for same in by_page.values()]
        groups += [SpecGroup(specs=sum(together, ())) for together in zip(*dealt, strict=True)]
    return tuple(groups)


def _repeats_per_group(buckets: list[list[LayerSpec]]) -> int:
    """Layers of each page size per group, so that the buckets that repeat a pattern waste least; 0: nothing repeats."""
    balanced = [pages for bucket in buckets if _is_balanced(pages := _by_page(bucket))]
    floor = max((max(map(_count, pages.values())) for pages in balanced if len(pages) > 1), default=0)
    if not floor:
        return 0
    counts = [max(map(_count, pages.values())) for pages in balanced]
    candidates = range(floor, max(counts) + 1)
    return min(candidates, key=lambda size: (sum(-count % size for count in counts), -size))


def _by_page(bucket: list[LayerSpec]) -> dict[int, list[LayerSpec]]:
    pages: dict[int, list[LayerSpec]] = {}
    for spec in bucket:
        pages.setdefault(spec.page_bytes, []).append(spec)
    return pages


def _is_balanced(pages: dict[int, list[LayerSpec]]) -> bool:
    return len(set(map(_count, pages.values()))) == 1


def _count(specs: Sequence[LayerSpec]) -> int:
    return sum(len(spec.layers) for spec in specs)


def _deal(specs: Sequence[LayerSpec], parts: int) -> list[tuple[LayerSpec, ...]]:
    """The layers dealt to so many groups in turn, in the order of the layers."""
    if parts == 1:
        return [tuple(specs)]
    placed = sorted((layer, place) for place, spec in enumerate(specs) for layer in spec.layers)
    return [_of_layers(specs, placed[part::parts]) for part in range(parts)]


def _of_layers(specs: Sequence[LayerSpec], placed: Sequence[tuple[int, int]]) -> tuple[LayerSpec, ...]:
    """The specs with those layers alone; `placed` pairs a layer with its spec's place."""
    kept = (tuple(layer for layer, place in placed if place == own) for own in range(len(specs)))
    return tuple(replace(spec, layers=layers) for spec, layers in zip(specs, kept, strict=True) if layers)
