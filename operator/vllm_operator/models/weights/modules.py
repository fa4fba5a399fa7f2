"""The parts a model is built from, as vLLM's layers divide them over the ranks of a tensor-parallel group.

A `Blueprint` lists them per pipeline stage and layer. It knows nothing of ranks, dtypes or quantization: those come
from `models.weights.ranks` and `models.weights.quantization`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Sharding(StrEnum):
    """How tensor parallelism divides one dimension."""

    DIVIDED = "Divided"
    """Each rank holds an equal share; units that are fewer than ranks are replicated (KV heads)."""
    WHOLE = "Whole"
    """Every rank holds all of it."""


@dataclass(frozen=True, slots=True)
class Extent:
    """One dimension of a weight: `units` (heads, channels) that are dealt to ranks, each `width` elements wide."""

    units: int
    width: int = 1
    sharding: Sharding = Sharding.DIVIDED
    whole_unless_divisible_by: int = 0
    """Heads of the tower this belongs to: where ranks do not divide them, every rank holds all; 0 = not asked."""

    def on_rank(self, ranks: int) -> int:
        """Elements of this dimension that one of `ranks` holds."""
        if self.sharding is Sharding.WHOLE or ranks == 1:
            return self.units * self.width
        if self.whole_unless_divisible_by and self.whole_unless_divisible_by % ranks:
            return self.units * self.width
        return max(1, -(-self.units // ranks)) * self.width

    @property
    def size(self) -> int:
        """Elements of the whole dimension."""
        return self.units * self.width


def divided(units: int, width: int = 1) -> Extent:
    """A dimension that tensor parallelism divides."""
    return Extent(units, width)


def whole(size: int) -> Extent:
    """A dimension that every rank holds in full."""
    return Extent(size, 1, Sharding.WHOLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A matrix multiplication; `parts` are the checkpoint's names of the matrices that vLLM fuses into it.

    `outputs` has one extent for each of the fused matrices. A bias follows the outputs. `quantizable` is False for
    layers that vLLM builds without a quantization config (routers, some projections).
    """

    name: str
    inputs: Extent
    outputs: tuple[Extent, ...]
    bias: bool = False
    parts: tuple[str, ...] = ()
    quantizable: bool = True
    dtype: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A plain parameter: norms, embeddings of positions, convolution kernels, decay rates. Never quantized.

    `dtype` overrides the model's (routing biases and state-space decay are float32).
    """

    name: str
    extents: tuple[Extent, ...]
    dtype: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A token embedding or an output head: rows padded to 64 and divided over the ranks."""

    name: str
    rows: int
    columns: int
    bias: bool = False
    head: bool = False
    sharding: Sharding = Sharding.DIVIDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The routed experts of one layer, held in two fused tensors (gate+up, down)."""

    name: str
    count: int
    hidden: int
    intermediate: int
    gated: bool = True
    bias: bool = False
    smallest_share: int = 1
    """Width below which a rank's share is padded up when the experts are divided (Kimi)."""


Module = Linear | Tensor | Vocabulary | Experts
Layer = tuple[Module, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """A whole model. Equal layers share one tuple, so that they are counted once.

    `{layer}` in a module's name stands for the layer's index. `exact` is False where the family is not known and the
    parts are those of a plain decoder.
    """

    first: Layer = ()
    """Held by the first pipeline stage: token embedding, vision tower."""
    layers: tuple[Layer, ...] = ()
    last: Layer = ()
    """Held by the last stage: final norm, output head."""
    embedding_everywhere: bool = False
    """Every pipeline stage builds the embedding."""
    vocabulary_everywhere: bool = False
    """Every pipeline stage builds the embedding and the head, used or not."""
    tied: bool = False
    """The output head is the token embedding: the last stage of several holds its own copy."""
    rotary_tables: tuple[tuple[int, int], ...] = ()
    """Positions and elements of each table of cosines and sines, kept beside the parameters."""
    exact: bool = True

    def buffer_bytes(self, element_bytes: int) -> int:
        """Bytes of the buffers that every stage keeps beside its parameters."""
        return sum(positions * elements for positions, elements in self.rotary_tables) * element_bytes
