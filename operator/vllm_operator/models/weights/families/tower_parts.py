"""What vision towers are made of: transformer blocks, whole tables and projections, divided projectors.

Unless a tower says otherwise its blocks are divided over the ranks (`--mm-encoder-tp-mode weights`, the default), and
its embeddings and projectors are whole on every rank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vllm_operator.models.weights.modules import Extent, Layer, Linear, Module, Tensor, divided, whole

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "vision_tower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The transformer blocks of a tower."""

    hidden: int
    intermediate: int
    heads: int
    depth: int
    head_dim: int = 0
    gated: bool = False
    attention_bias: bool = True
    output_bias: bool = True
    mlp_bias: bool = True
    norm_bias: bool = True
    norms: int = 2
    qk_norm: int = 0
    """Elements of the norms of queries and keys together."""
    layer_scales: int = 0
    whole_unless_heads_divide: bool = False
    """The tower runs whole on every rank when its heads do not divide by them."""
    attention_divided: bool = True
    mlp_divided: bool = True


def blocks(shape: Blocks) -> Layer:
    """All blocks of a tower."""
    spread: Callable[..., Extent] = divided if shape.attention_divided else _undivided
    mlp = divided if shape.mlp_divided else whole
    head_dim = shape.head_dim or shape.hidden // max(1, shape.heads)
    heads = spread(shape.heads, head_dim)
    up = mlp(shape.intermediate)
    if shape.whole_unless_heads_divide:
        heads, up = (replace(extent, whole_unless_divisible_by=shape.heads) for extent in (heads, up))
    name, count = NAME + ".blocks", shape.depth
    vectors = shape.norms * (2 if shape.norm_bias else 1) + shape.layer_scales
    modules: list[Module] = [
        Tensor(name=name + ".norms", extents=(whole(shape.hidden),), count=count * vectors),
        Linear(
            name=name + ".attn.qkv",
            inputs=whole(shape.hidden),
            outputs=(heads, heads, heads),
            bias=shape.attention_bias,
            count=count,
            quantizable=False,
        ),
        Linear(
            name=name + ".attn.proj",
            inputs=heads,
            outputs=(whole(shape.hidden),),
            bias=shape.output_bias,
            count=count,
            quantizable=False,
        ),
        Linear(
            name=name + ".mlp.up",
            inputs=whole(shape.hidden),
            outputs=(up, up) if shape.gated else (up,),
            bias=shape.mlp_bias,
            count=count,
            quantizable=False,
        ),
        Linear(
            name=name + ".mlp.down",
            inputs=up,
            outputs=(whole(shape.hidden),),
            bias=shape.mlp_bias,
            count=count,
            quantizable=False,
        ),
    ]
    if shape.qk_norm:
        modules.append(Tensor(name=name + ".qk_norm", extents=(whole(shape.qk_norm),), count=count))
    return tuple(modules)


def _undivided(units: int, width: int = 1) -> Extent:
    return whole(units * width)


def parameters(*shapes: int) -> Layer:
    """Vectors and tables that every rank holds whole."""
    return (Tensor(name=NAME + ".embeddings", extents=(whole(sum(shapes)),)),)


def dense(inputs: int, outputs: int, *, bias: bool = True) -> Layer:
    """A projection that every rank holds whole."""
    return (
        Linear(
            name=NAME + ".projector",
            inputs=whole(inputs),
            outputs=(whole(outputs),),
            bias=bias,
            quantizable=False,
        ),
    )


def divided_pair(inputs: int, inner: int, outputs: int, *, bias: bool = True) -> Layer:
    """A projector of two layers, the first divided by its outputs, the second by its inputs."""
    middle = divided(inner)
    return (
        Linear(name=NAME + ".merger.0", inputs=whole(inputs), outputs=(middle,), bias=bias, quantizable=False),
        Linear(name=NAME + ".merger.2", inputs=middle, outputs=(whole(outputs),), bias=bias, quantizable=False),
    )
