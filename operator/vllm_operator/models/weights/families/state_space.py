"""Mixers with a state instead of a cache: Mamba, Mamba2, gated delta nets, Kimi delta attention, short convolutions.

Sources, vLLM 0.33: `layers/mamba/{mamba_mixer,mamba_mixer2,short_conv}.py`, `layers/mamba/gdn`, `models/common/kda.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from vllm_operator.models.weights.modules import Layer, Linear, Module, Tensor, divided, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2Shape:
    """Dimensions of a Mamba2 mixer."""

    hidden: int
    heads: int
    head_dim: int
    groups: int
    state: int
    kernel: int
    bias: bool = False
    conv_bias: bool = True
    norm: bool = True

    @property
    def intermediate(self) -> int:
        """Width of the mixer: heads × head size."""
        return self.heads * self.head_dim


def mamba2(name: str, shape: Mamba2Shape) -> Layer:
    """A Mamba2 mixer. Groups that are fewer than ranks are replicated, like KV heads."""
    inner, groups = divided(shape.heads, shape.head_dim), divided(shape.groups, shape.state)
    heads = divided(shape.heads)
    modules: list[Module] = [
        Linear(
            name=name + ".in_proj",
            inputs=whole(shape.hidden),
            outputs=(inner, inner, groups, groups, heads),
            bias=shape.bias,
        ),
        Linear(
            name=name + ".conv1d",
            inputs=whole(shape.kernel),
            outputs=(inner, groups, groups),
            bias=shape.conv_bias,
            quantizable=False,
        ),
        Tensor(name=name + ".A", extents=(heads,), dtype="float32"),
        Tensor(name=name + ".D", extents=(heads,)),
        Tensor(name=name + ".dt_bias", extents=(heads,)),
        Linear(name=name + ".out_proj", inputs=inner, outputs=(whole(shape.hidden),), bias=shape.bias),
    ]
    if shape.norm:
        modules.append(Tensor(name=name + ".norm", extents=(inner,)))
    return tuple(modules)


@dataclass(frozen=True, slots=True, kw_only=True)
class MambaShape:
    """Dimensions of a first-generation Mamba mixer."""

    hidden: int
    intermediate: int
    state: int
    kernel: int
    time_step_rank: int
    bias: bool = False
    conv_bias: bool = True
    norms: bool = False
    """Norms of B, C and the time step (Jamba, FalconMamba); FalconMamba's have no weight."""


def mamba(name: str, shape: MambaShape) -> Layer:
    """A first-generation Mamba mixer."""
    inner = divided(shape.intermediate)
    modules: list[Module] = [
        Linear(name=name + ".in_proj", inputs=whole(shape.hidden), outputs=(inner, inner), bias=shape.bias),
        Linear(
            name=name + ".conv1d",
            inputs=whole(shape.kernel),
            outputs=(inner,),
            bias=shape.conv_bias,
            quantizable=False,
        ),
        Linear(
            name=name + ".x_proj",
            inputs=inner,
            outputs=(whole(shape.time_step_rank + 2 * shape.state),),
            quantizable=False,
        ),
        Linear(
            name=name + ".dt_proj",
            inputs=whole(shape.time_step_rank),
            outputs=(inner,),
            bias=True,
            quantizable=False,
        ),
        Tensor(name=name + ".A", extents=(inner, whole(shape.state)), dtype="float32"),
        Tensor(name=name + ".D", extents=(inner,)),
        Linear(name=name + ".out_proj", inputs=inner, outputs=(whole(shape.hidden),), bias=shape.bias),
    ]
    if shape.norms:
        modules.append(Tensor(name=name + ".norms", extents=(whole(shape.time_step_rank + 2 * shape.state),)))
    return tuple(modules)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaNetShape:
    """Dimensions of a gated delta net (Qwen3-Next, Qwen3.5)."""

    hidden: int
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int


def gated_delta_net(name: str, shape: DeltaNetShape) -> Layer:
    """A gated delta net: queries, keys, values and a gate from one projection, then a short convolution."""
    keys, values = divided(shape.key_heads, shape.key_dim), divided(shape.value_heads, shape.value_dim)
    heads = divided(shape.value_heads)
    return (
        Linear(
            name=name + ".in_proj_qkvz",
            inputs=whole(shape.hidden),
            outputs=(keys, keys, values, values),
            parts=("in_proj_qkv", "in_proj_z"),
        ),
        Linear(
            name=name + ".in_proj_ba",
            inputs=whole(shape.hidden),
            outputs=(heads, heads),
            parts=("in_proj_b", "in_proj_a"),
        ),
        Linear(name=name + ".conv1d", inputs=whole(shape.kernel), outputs=(keys, keys, values), quantizable=False),
        Tensor(name=name + ".dt_bias", extents=(heads,)),
        Tensor(name=name + ".A_log", extents=(heads,), dtype="float32"),
        Tensor(name=name + ".norm", extents=(whole(shape.value_dim),)),
        Linear(name=name + ".out_proj", inputs=values, outputs=(whole(shape.hidden),)),
    )


def kimi_delta_attention(
    name: str, *, hidden: int, heads: int, head_dim: int, kernel: int, full_rank_gate: bool = False
) -> Layer:
    """Kimi delta attention: a decay for each channel, convolutions and decay rates in float32."""
    inner = divided(heads, head_dim)
    modules: list[Module] = [
        Linear(name=f"{name}.{part}_proj", inputs=whole(hidden), outputs=(inner,)) for part in ("q", "k", "v")
    ]
    modules += [
        Linear(name=name + ".f_a_proj", inputs=whole(hidden), outputs=(whole(head_dim),)),
        Linear(name=name + ".f_b_proj", inputs=whole(head_dim), outputs=(inner,)),
        Linear(name=name + ".b_proj", inputs=whole(hidden), outputs=(divided(heads),)),
        Tensor(name=name + ".dt_bias", extents=(inner,), dtype="float32"),
        Tensor(name=name + ".conv", extents=(inner, whole(kernel)), dtype="float32", count=3),
        Tensor(name=name + ".A_log", extents=(divided(heads),), dtype="float32"),
        Tensor(name=name + ".o_norm", extents=(whole(head_dim),)),
        Linear(name=name + ".o_proj", inputs=inner, outputs=(whole(hidden),)),
    ]
    if full_rank_gate:
        modules.append(Linear(name=name + ".g_proj", inputs=whole(hidden), outputs=(inner,)))
    else:
        modules += [
            Linear(name=name + ".g_a_proj", inputs=whole(hidden), outputs=(whole(head_dim),)),
            Linear(name=name + ".g_b_proj", inputs=whole(head_dim), outputs=(inner,)),
        ]
    return tuple(modules)


def short_convolution(name: str, *, hidden: int, width: int, kernel: int, bias: bool) -> Layer:
    """LFM2's gated short convolution."""
    inner = divided(width)
    return (
        Linear(name=name + ".in_proj", inputs=whole(hidden), outputs=(inner, inner, inner), bias=bias),
        Linear(name=name + ".conv", inputs=whole(kernel), outputs=(inner,), bias=bias, quantizable=False),
        Linear(name=name + ".out_proj", inputs=inner, outputs=(whole(hidden),), bias=bias),
    )
