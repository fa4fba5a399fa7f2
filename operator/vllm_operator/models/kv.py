"""The KV cache as vLLM lays it out on one GPU: specs per layer, groups, pages, blocks.

Sources: vllm/v1/core/kv_cache_planning.py and vllm/v1/kv_cache_interface.py@0.33.0. All groups draw block ids from one
pool, so one block id costs a page in each layer slot of the widest group.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from vllm_operator.models.caches import AttentionCache, LatentCache, LayerCache
from vllm_operator.models.errors import ModelConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.models.settings import ResolvedSettings

ELEMENT_BYTES: Final = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "fp8_inc": 1,
}
_ONE_WIDE_GROUP: Final = 1.5
"""Below this ratio of largest to smallest bucket, padding the smaller one beats cutting both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvGroup:
    """Layers that share a block table. `page_bytes` is one block of one layer, padding included."""

    layers: int
    kind: str
    block_size: int
    page_bytes: int
    window: int | None = None
    chunk: int | None = None

    def blocks_one_sequence(self, length: int, *, in_flight: int) -> int:
        """Blocks that one sequence of `length` tokens takes in this group."""
        if self.window is not None:
            return -(-min(self.window - 1 + in_flight, length) // self.block_size) + 1
        if self.chunk is not None:
            return -(-min(self.chunk + in_flight, length) // self.block_size)
        return -(-length // self.block_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCapacity:
    """What a pool of given size holds, as vLLM's log would print it."""

    num_blocks: int
    tokens: int
    max_concurrency: float
    fits: bool
    """Whether one sequence of the asked length fits (one block is the null block)."""
    estimated_max_model_len: int
    """Longest sequence that fits."""


@dataclass(frozen=True)
class KvLayout:
    """Groups of one GPU and the arithmetic over them."""

    groups: tuple[KvGroup, ...]
    in_flight_tokens: int
    context_parallel: int = 1
    longest: int = 1

    @cached_property
    def bytes_per_block(self) -> int:
        """Bytes that one block id costs over all layers."""
        return max((group.layers * group.page_bytes for group in self._padded), default=0)

    @cached_property
    def _padded(self) -> tuple[KvGroup, ...]:
        widest = max((group.layers for group in self.groups), default=0)
        return tuple(replace(group, layers=widest) for group in self.groups)

    def blocks_one_sequence(self, length: int) -> int:
        """Blocks that one sequence of `length` tokens takes over all groups."""
        local = -(-length // self.context_parallel)
        return sum(group.blocks_one_sequence(local, in_flight=self.in_flight_tokens) for group in self.groups)

    def bytes_one_sequence(self, length: int) -> int:
        """Bytes per GPU that one sequence of `length` tokens takes."""
        return self.blocks_one_sequence(length) * self.bytes_per_block

    def capacity(self, available_bytes: int, length: int) -> KvCapacity:
        """Return what `available_bytes` per GPU hold at `length` tokens per sequence."""
        needed = self.blocks_one_sequence(length)
        if not self.groups or not needed:
            return KvCapacity(num_blocks=0, tokens=0, max_concurrency=0.0, fits=True, estimated_max_model_len=length)
        blocks = max(0, available_bytes) // self.bytes_per_block
        concurrency = blocks / needed
        usable = available_bytes - self.bytes_per_block
        return KvCapacity(
            num_blocks=blocks,
            tokens=int(concurrency * length),
            max_concurrency=concurrency,
            fits=needed * self.bytes_per_block <= usable,
            estimated_max_model_len=self._longest_that_fits(usable, length),
        )

    def _longest_that_fits(self, usable_bytes: int, length: int) -> int:
        low, high = 0, length
        while low < high:
            middle = (low + high + 1) // 2
            if self.bytes_one_sequence(middle) <= usable_bytes:
                low = middle
            else:
                high = middle - 1
        return low


def kv_layout(facts: ModelFacts, resolved: ResolvedSettings) -> KvLayout:
    """Return the layout on the fullest GPU of one replica.

    Raises:
        ModelConfigError: a KV dtype or a kind of layer has no size here.
    """
    specs = [_page(cache, facts, resolved) for cache in facts.caches] if facts.generates else []
    return KvLayout(
        groups=tuple(_groups(specs, resolved)),
        in_flight_tokens=resolved.max_in_flight_tokens,
        context_parallel=resolved.decode_context_parallel_size,
        longest=resolved.max_model_len,
    )


def _page(cache: LayerCache, facts: ModelFacts, resolved: ResolvedSettings) -> KvGroup:
    dtype = resolved.dtype if resolved.kv_cache_dtype == "auto" else resolved.kv_cache_dtype
    element = ELEMENT_BYTES.get(dtype)
    if element is None:
        raise ModelConfigError("kv_cache_dtype", f"no element size known for {dtype!r}")
    block = resolved.block_size
    if isinstance(cache, LatentCache):
        return KvGroup(layers=1, kind="Latent", block_size=block, page_bytes=block * cache.width * element)
    if isinstance(cache, AttentionCache):
        heads = max(1, cache.num_kv_heads // resolved.tensor_parallel_size)
        page = heads * block * (cache.head_size + cache.head_size_v) * element
        local = cache.window or cache.chunk
        if local and not resolved.hybrid_kv_cache_manager:
            cache = replace(cache, window=None, chunk=None)
        kind = "Sliding" if cache.window else "Chunked" if cache.chunk else "Full"
        return KvGroup(layers=1, kind=kind, block_size=block, page_bytes=page, window=cache.window, chunk=cache.chunk)
    raise ModelConfigError("layer_types", f"the memory of {facts.architecture}'s state layers is not known")


def _groups(specs: list[KvGroup], resolved: ResolvedSettings) -> Iterable[KvGroup]:
    """Cut the layers into groups of equal size, as `_get_kv_cache_groups_uniform_page_size` does."""
    stages = resolved.pipeline_parallel_size
    buckets = Counter(_unified(specs))
    if stages > 1:
        buckets = Counter({spec: -(-count // stages) for spec, count in buckets.items()})
    if len(buckets) <= 1:
        return [replace(spec, layers=count) for spec, count in buckets.items()]
    smallest, largest = min(buckets.values()), max(buckets.values())
    size = largest if largest < _ONE_WIDE_GROUP * smallest else smallest
    groups = []
    for spec, count in buckets.items():
        parts = -(-count // size)
        groups += [replace(spec, layers=len(range(part, count, parts))) for part in range(parts)]
    return groups


def _unified(specs: list[KvGroup]) -> list[KvGroup]:
    """Give every layer the same page: smaller pages get more tokens where that divides."""
    pages = {spec.page_bytes for spec in specs}
    if len(pages) <= 1:
        return specs
    largest = max(pages)
    unified = []
    for spec in specs:
        ratio, rest = divmod(largest, spec.page_bytes)
        block = spec.block_size if rest else spec.block_size * ratio
        unified.append(replace(spec, block_size=block, page_bytes=largest))
    return unified
