"""The KV cache as vLLM lays it out on one GPU: specs per layer, groups, pages, blocks.

Sources: vllm/v1/core/kv_cache_planning.py and vllm/v1/kv_cache_interface.py@0.33.0. All groups draw block ids from one
pool, so one block id costs a page in each layer slot of the widest group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from vllm_operator.models.cache_kinds import layers_by_kind
from vllm_operator.models.caches import AttentionCache, CrossCache, IndexerCache, LatentCache, PackedCache, StateCache
from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.grouping import LayerSpec, SpecKind, group_layers
from vllm_operator.models.pages import (
    TURBOQUANT_BITS,
    attention_token_bytes,
    indexer_token_bytes,
    latent_token_bytes,
    state_bytes,
)
from vllm_operator.models.speculation import Drafter, drafter_of
from vllm_operator.models.versions import fit_counts_all_stages

if TYPE_CHECKING:
    from vllm_operator.models.caches import LayerCache
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.models.grouping import SpecGroup
    from vllm_operator.models.settings import ResolvedSettings

_LENGTHS_KEPT: Final = 64
"""Lengths whose blocks a layout remembers: the one that was asked for, and those that its search tries."""
_PROTECTED_LAYERS: Final = 2
"""First and last layers that TurboQuant leaves in the model's dtype; hybrids have too few to spare any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvGroup:
    """Layers that share a block table, all stages of a pipeline together."""

    layers: int
    kind: str
    block_size: int
    """Tokens per block."""
    page_bytes: int
    """One block of one layer, padding included; the mean where layers differ."""
    window: int | None = None
    chunk: int | None = None
    reserved_blocks: int = 0
    encoder_tokens: int = 0
    stage_bytes: tuple[int, ...] = ()
    """Bytes of one block over the group's layers, on a GPU of each pipeline stage."""

    def blocks_one_sequence(self, length: int, *, in_flight: int, context_parallel: int = 1) -> int:
        """Blocks that one sequence of `length` tokens takes in this group."""
        if self.kind == SpecKind.STATE:
            return self.reserved_blocks
        if self.kind == SpecKind.CROSS:
            return -(-self.encoder_tokens // self.block_size)
        if self.window is not None:
            return -(-min(self.window - 1 + in_flight, length) // self.block_size) + 1
        if self.chunk is not None:
            return -(-min(self.chunk + in_flight, length) // self.block_size)
        own = -(-length // context_parallel)
        return -(-own // self.block_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCapacity:
    """What a pool of given size holds, as vLLM's log would print it."""

    num_blocks: int
    tokens: int
    max_concurrency: float
    fits: bool
    """Whether one sequence of the asked length fits (one block is the null block)."""
    estimated_max_model_len: int
    """Longest sequence that fits, at most the asked length."""


@dataclass(frozen=True)
class KvLayout:
    """Groups of one GPU and the arithmetic over them."""

    groups: tuple[KvGroup, ...]
    in_flight_tokens: int
    context_parallel: int = 1
    checks_all_layers: bool = False
    """The fit check asks each stage for the layers of all of them (`fit_counts_all_stages`)."""

    @cached_property
    def smallest_block(self) -> int:
        """Tokens of the smallest block of any group; 0 without a cache."""
        return min((group.block_size for group in self.groups), default=0)

    @cached_property
    def _blocks_by_length(self) -> dict[int, int]:
        return {}

    @cached_property
    def bytes_per_block(self) -> int:
        """Bytes that one block id costs over all layers, on a GPU of the fullest pipeline stage."""
        return max(self.bytes_per_block_by_stage, default=0)

    @cached_property
    def bytes_per_block_by_stage(self) -> tuple[int, ...]:
        """Bytes that one block id costs on a GPU of each pipeline stage: the widest group decides."""
        return tuple(max(sizes) for sizes in zip(*(group.stage_bytes for group in self.groups), strict=True))

    @cached_property
    def _checked_bytes_by_stage(self) -> tuple[int, ...]:
        """Bytes of one block id that the fit check holds against the memory of each stage."""
        if not self.checks_all_layers:
            return self.bytes_per_block_by_stage
        whole = max((sum(group.stage_bytes) for group in self.groups), default=0)
        return (whole,) * len(self.bytes_per_block_by_stage)

    def blocks_one_sequence(self, length: int) -> int:
        """Blocks that one sequence of `length` tokens takes over all groups."""
        known = self._blocks_by_length
        blocks = known.get(length)
        if blocks is None:
            parallel = self.context_parallel
            blocks = sum(
                group.blocks_one_sequence(length, in_flight=self.in_flight_tokens, context_parallel=parallel)
                for group in self.groups
            )
            if len(known) < _LENGTHS_KEPT:
                known[length] = blocks
        return blocks

    def checked_bytes_one_sequence(self, length: int) -> int:
        """Bytes that the fit check asks of a GPU for one sequence of `length` tokens."""
        return self.blocks_one_sequence(length) * max(self._checked_bytes_by_stage, default=0)

    def scarcest_stage(self, available_bytes: tuple[int, ...]) -> int:
        """The stage whose memory holds the fewest blocks; the first of equals."""
        if len(available_bytes) == 1:
            return 0
        sizes = self._checked_bytes_by_stage or (1,) * len(available_bytes)
        held = [available / size for available, size in zip(available_bytes, sizes, strict=True) if size]
        stages = [stage for stage, size in enumerate(sizes) if size]
        return stages[held.index(min(held))] if held else 0

    def bytes_one_sequence(self, length: int) -> int:
        """Bytes per GPU that one sequence of `length` tokens takes."""
        return self.blocks_one_sequence(length) * self.bytes_per_block

    def capacity(self, available_bytes: int, length: int) -> KvCapacity:
        """Return what `available_bytes` on every GPU hold at `length` tokens per sequence."""
        return self.capacity_of_stages((available_bytes,) * len(self.bytes_per_block_by_stage), length)

    def capacity_of_stages(self, available_bytes: tuple[int, ...], length: int) -> KvCapacity:
        """Return what the stages' GPUs hold together: the stage with the fewest blocks decides for all.

        Source: vllm/v1/core/kv_cache_utils.py `get_kv_cache_configs`. The check takes the null block off each stage.
        """
        needed = self.blocks_one_sequence(length)
        if not self.groups or not needed:
            return KvCapacity(num_blocks=0, tokens=0, max_concurrency=0.0, fits=True, estimated_max_model_len=length)
        own = zip(available_bytes, self.bytes_per_block_by_stage, strict=True)
        blocks = min(max(0, available) // size for available, size in own if size)
        checked = zip(available_bytes, self._checked_bytes_by_stage, strict=True)
        usable_blocks = min((available - size) // size for available, size in checked if size)
        concurrency = blocks / needed
        fits = needed <= usable_blocks
        return KvCapacity(
            num_blocks=blocks,
            tokens=int(concurrency * length),
            max_concurrency=concurrency,
            fits=fits,
            estimated_max_model_len=length if fits else self._longest_that_fits(usable_blocks, length),
        )

    def _longest_that_fits(self, usable_blocks: int, length: int) -> int:
        """`_estimate_max_model_len_from_groups`: 0 when not even one token fits."""
        low, high = 0, length
        while low < high:
            middle = (low + high + 1) // 2
            if self.blocks_one_sequence(middle) <= usable_blocks:
                low = middle
            else:
                high = middle - 1
        return low


def kv_layout(facts: ModelFacts, resolved: ResolvedSettings) -> KvLayout:
    """Return the layout on a GPU of each stage of one replica.

    Raises:
        ModelConfigError: a KV dtype has no size here, or vLLM could not lay these layers out.
    """
    return layout_of(kv_groups(facts, resolved), resolved)


def kv_groups(facts: ModelFacts, resolved: ResolvedSettings) -> tuple[KvGroup, ...]:
    """Return the groups of layers that share a block table; no batch limit, and length only of states, plays a part.

    Raises:
        ModelConfigError: as `kv_layout`.
    """
    specs = _layer_specs(facts, resolved)
    is_uneven = any(spec.kind not in (SpecKind.FULL, SpecKind.STATE) for spec in specs)
    if resolved.decode_context_parallel_size > 1 and is_uneven:
        raise ModelConfigError(
            "decode_context_parallel_size", "vLLM supports it only where every layer sees everything"
        )
    groups = group_layers(specs, hybrid=resolved.hybrid_kv_cache_manager)
    stage_of = resolved.stages.of_layers(len(facts.caches)) if resolved.stages.count > 1 else ()
    return tuple(_kv_group(group, stage_of, resolved) for group in groups)


def layout_of(groups: tuple[KvGroup, ...], resolved: ResolvedSettings) -> KvLayout:
    """Return the arithmetic over these groups with the settings' limits."""
    return KvLayout(
        groups=groups,
        in_flight_tokens=resolved.max_in_flight_tokens,
        context_parallel=resolved.decode_context_parallel_size,
        checks_all_layers=fit_counts_all_stages(resolved.version),
    )


def _layer_specs(facts: ModelFacts, resolved: ResolvedSettings) -> list[LayerSpec]:
    """What the layers keep, each kind once, in the order in which the model meets them; a draft's layers last."""
    count = len(facts.caches)
    protected = _protected_layers(facts, resolved, count)
    specs = [
        _sized(_spec(cache, part, resolved, protected=is_protected))
        for cache, layers in layers_by_kind(facts)
        for is_protected, part in _parts(layers, protected)
    ]
    drafts = [_sized(_spec(cache, (count - 1,), resolved)) for cache in _draft_caches(facts, resolved)]
    return sorted(specs, key=lambda spec: spec.layers[0]) + drafts if protected else specs + drafts


def _parts(layers: tuple[int, ...], protected: frozenset[int]) -> list[tuple[bool, tuple[int, ...]]]:
    """The layers that keep the model's dtype, and the others; nothing for neither."""
    if not protected:
        return [(False, layers)]
    split = ((kept, tuple(layer for layer in layers if (layer in protected) is kept)) for kept in (True, False))
    return [(kept, part) for kept, part in split if part]


def _draft_caches(facts: ModelFacts, resolved: ResolvedSettings) -> tuple[LayerCache, ...]:
    """What the draft's layers keep: the checkpoint's own, or the one layer of a head on the model's hidden states.

    A second model's layers are not counted: its config is not at hand.
    """
    drafter = drafter_of(resolved.speculative)
    if drafter is Drafter.OWN_LAYERS:
        return facts.draft_caches
    if drafter is not Drafter.HEAD:
        return ()
    return next((caches for caches in reversed(facts.caches) if caches and all(map(_sees_everything, caches))), ())


def _sees_everything(cache: LayerCache) -> bool:
    if isinstance(cache, AttentionCache):
        return cache.window is None and cache.chunk is None
    return isinstance(cache, LatentCache)


def _sized(spec: LayerSpec) -> LayerSpec:
    if spec.page_bytes <= 0:
        raise ModelConfigError("head_dim", f"a layer of kind {spec.kind.value} would keep nothing; its sizes are wrong")
    return spec


def _protected_layers(facts: ModelFacts, resolved: ResolvedSettings, count: int) -> frozenset[int]:
    is_hybrid = any(isinstance(cache, StateCache) for caches in facts.caches for cache in caches)
    if resolved.kv_cache_dtype not in TURBOQUANT_BITS or is_hybrid:
        return frozenset()
    edge = min(_PROTECTED_LAYERS, count // 2)
    return frozenset([*range(edge), *range(count - edge, count)])


def _spec(
    cache: LayerCache, layers: tuple[int, ...], resolved: ResolvedSettings, *, protected: bool = False
) -> LayerSpec:
    """Return the pages of the layers that keep such a cache."""
    block, widths = resolved.block_size, resolved.widths
    if isinstance(cache, AttentionCache):
        page = block * attention_token_bytes(cache, widths, protected=protected)
        kind = SpecKind.SLIDING if cache.window else SpecKind.CHUNKED if cache.chunk else SpecKind.FULL
        content = (cache.num_kv_heads, cache.head_size, cache.head_size_v, protected)
        return LayerSpec(
            layers=layers,
            kind=kind,
            block_size=block,
            page_bytes=page,
            content=content,
            window=cache.window or None,
            chunk=None if cache.window else cache.chunk,
        )
    if isinstance(cache, CrossCache):
        own = AttentionCache(num_kv_heads=cache.num_kv_heads, head_size=cache.head_size, head_size_v=cache.head_size)
        return LayerSpec(
            layers=layers, kind=SpecKind.CROSS, block_size=block, page_bytes=block * attention_token_bytes(own, widths)
        )
    if isinstance(cache, LatentCache):
        page = block * latent_token_bytes(cache, widths)
        return LayerSpec(layers=layers, kind=SpecKind.FULL, block_size=block, page_bytes=page, is_latent=True)
    if isinstance(cache, IndexerCache):
        page = block * indexer_token_bytes(cache, widths)
        return LayerSpec(
            layers=layers, kind=SpecKind.FULL, block_size=block, page_bytes=page, is_latent=True, content=("indexer",)
        )
    if isinstance(cache, PackedCache):
        kind = SpecKind.SLIDING if cache.window else SpecKind.FULL
        return LayerSpec(
            layers=layers,
            kind=kind,
            block_size=cache.block_size,
            page_bytes=cache.page_bytes,
            window=cache.window,
            is_packed=True,
        )
    return LayerSpec(
        layers=layers,
        kind=SpecKind.STATE,
        block_size=resolved.state_block_size,
        page_bytes=max(state_bytes(cache, widths), resolved.state_page_bytes),
        content=(cache,),
        reserved_blocks=resolved.state_blocks,
    )


def _kv_group(group: SpecGroup, stage_of: tuple[int, ...], resolved: ResolvedSettings) -> KvGroup:
    sizes = [0] * resolved.stages.count
    for spec in group.specs:
        if resolved.stages.count == 1:
            sizes[0] += len(spec.layers) * spec.page_bytes
            continue
        for layer in spec.layers:
            sizes[stage_of[layer]] += spec.page_bytes
    first = group.specs[0]
    return KvGroup(
        layers=group.count,
        kind=first.kind.value,
        block_size=first.block_size,
        page_bytes=sum(sizes) // group.count,
        window=first.window,
        chunk=first.chunk,
        reserved_blocks=first.reserved_blocks,
        encoder_tokens=resolved.max_num_encoder_input_tokens,
        stage_bytes=tuple(sizes),
    )
