"""Models that mix attention layers with state-space layers, and pure state-space models."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.models.weights.families.decoder import (
    LAYER,
    assemble,
    attention,
    feed_forward,
    head_count,
    hidden_size,
    layer_count,
    mlp,
)
from vllm_operator.models.weights.families.experts import (
    expert_count,
    expert_layers,
    moe_modules,
    shared_intermediate_size,
)
from vllm_operator.models.weights.families.latent import LATENT_TRAITS, latent_attention
from vllm_operator.models.weights.families.state_space import (
    DeltaNetShape,
    Mamba2Shape,
    MambaShape,
    gated_delta_net,
    kimi_delta_attention,
    mamba,
    mamba2,
    short_convolution,
)
from vllm_operator.models.weights.families.traits import Bias, QkNorm, Traits
from vllm_operator.models.weights.fields import flag, integer, integers, items, section, text
from vllm_operator.models.weights.modules import (
    Blueprint,
    Layer,
    Linear,
    Tensor,
    divided,
    whole,
)

if TYPE_CHECKING:
    from vllm_operator.models.weights.fields import Config

PLAIN_STATES = Traits(mlp_bias=Bias.NEVER)
"""What models of states and attention share: no bias in their feed-forward."""


def norms_of(hidden: int, count: int = 1) -> Layer:
    """So many norms as wide as the hidden state."""
    return (Tensor(name=LAYER + "norm", extents=(whole(hidden),), count=count),)


def mamba2_model(config: Config) -> Blueprint:
    """A pure Mamba2 model."""
    hidden = hidden_size(config)
    heads = integer(config, "num_heads", default=1)
    shape = Mamba2Shape(
        hidden=hidden,
        heads=heads,
        head_dim=integer(config, "head_dim", default=64),
        groups=integer(config, "n_groups", default=1),
        state=integer(config, "state_size", default=128),
        kernel=integer(config, "conv_kernel", default=4),
        bias=flag(config, "use_bias"),
        conv_bias=flag(config, "use_conv_bias", default=True),
    )
    layer = norms_of(hidden) + mamba2(LAYER + "mixer", shape)
    return assemble(config, replace(PLAIN_STATES, tied=True), (layer,) * layer_count(config))


def mamba_model(config: Config) -> Blueprint:
    """A pure Mamba model."""
    hidden = hidden_size(config)
    rank = integer(config, "time_step_rank") or -(-hidden // 16)
    shape = MambaShape(
        hidden=hidden,
        intermediate=integer(config, "intermediate_size") or integer(config, "expand", default=2) * hidden,
        state=integer(config, "state_size", default=16),
        kernel=integer(config, "conv_kernel", default=4),
        time_step_rank=rank,
        bias=flag(config, "use_bias"),
        conv_bias=flag(config, "use_conv_bias", default=True),
    )
    layer = norms_of(hidden) + mamba(LAYER + "mixer", shape)
    return assemble(config, replace(PLAIN_STATES, tied=True), (layer,) * layer_count(config))


def shared_layers(layers: list[Layer]) -> tuple[Layer, ...]:
    """Equal layers as one tuple."""
    seen: dict[Layer, Layer] = {}
    return tuple(seen.setdefault(layer, layer) for layer in layers)


def jamba(config: Config) -> Blueprint:
    """Jamba: Mamba and attention layers by period, experts by another period."""
    hidden, count = hidden_size(config), layer_count(config)
    shape = MambaShape(
        hidden=hidden,
        intermediate=integer(config, "mamba_expand", default=2) * hidden,
        state=integer(config, "mamba_d_state", default=16),
        kernel=integer(config, "mamba_d_conv", default=4),
        time_step_rank=integer(config, "mamba_dt_rank") or -(-hidden // 16),
        bias=flag(config, "mamba_proj_bias"),
        conv_bias=flag(config, "mamba_conv_bias", default=True),
        norms=True,
    )
    traits = replace(PLAIN_STATES, moe="feed_forward", mlp="feed_forward", qkv_bias=Bias.NEVER, output_bias=Bias.NEVER)
    period = integer(config, "attn_layer_period", default=8) or 8
    offset = integer(config, "attn_layer_offset", default=4)
    sparse_at = expert_layers({"expert_layer_period": 2, "expert_layer_offset": 1, **config})
    norms = norms_of(hidden, 2)
    mixers = {True: attention(config, traits), False: mamba(LAYER + "mamba", shape)}
    forward = {True: moe_modules(config, traits) if any(sparse_at) else (), False: mlp(config, traits)}
    layers = [norms + mixers[index % period == offset] + forward[sparse_at[index]] for index in range(count)]
    return assemble(config, traits, shared_layers(layers))


def granite_hybrid(config: Config) -> Blueprint:
    """Granite 4: Mamba2 and attention layers, each followed by experts and a shared expert, or by it alone."""
    hidden = hidden_size(config)
    traits = replace(PLAIN_STATES, moe="block_sparse_moe", tied=True)
    heads = integer(config, "mamba_n_heads", default=1)
    dim = integer(config, "mamba_d_head") or integer(config, "mamba_expand", default=2) * hidden // max(1, heads)
    shape = Mamba2Shape(
        hidden=hidden,
        heads=heads,
        head_dim=dim,
        groups=integer(config, "mamba_n_groups", default=1),
        state=integer(config, "mamba_d_state", default=128),
        kernel=integer(config, "mamba_d_conv", default=4),
        bias=flag(config, "mamba_proj_bias"),
        conv_bias=flag(config, "mamba_conv_bias", default=True),
    )
    forward: Layer = ()
    if expert_count(config):
        forward = moe_modules(config, traits)
    elif shared_intermediate_size(config):
        forward = feed_forward(LAYER + "shared_mlp", hidden=hidden, intermediate=shared_intermediate_size(config))
    norms = norms_of(hidden, 2)
    mixers = {"mamba": mamba2(LAYER + "mamba", shape), "attention": attention(config, traits)}
    kinds = items(config, "layer_types", "layers_block_type")[:4096] or ("mamba",) * layer_count(config)
    layers = [norms + mixers.get(str(kind), mixers["attention"]) + forward for kind in kinds]
    return assemble(config, traits, shared_layers(layers))


def bamba(config: Config) -> Blueprint:
    """Bamba: Mamba2 and attention layers, each followed by a dense layer."""
    hidden = hidden_size(config)
    shape = Mamba2Shape(
        hidden=hidden,
        heads=integer(config, "mamba_n_heads", default=1),
        head_dim=integer(config, "mamba_d_head", default=64),
        groups=integer(config, "mamba_n_groups", default=1),
        state=integer(config, "mamba_d_state", default=256),
        kernel=integer(config, "mamba_d_conv", default=4),
        bias=flag(config, "mamba_proj_bias"),
        conv_bias=flag(config, "mamba_conv_bias", default=True),
    )
    attended = integers(config, "attn_layer_indices")
    types = items(config, "layer_types", "layers_block_type")
    forward, norms = mlp(config, PLAIN_STATES), norms_of(hidden, 2)
    mixer, attend = mamba2(LAYER + "mamba", shape), attention(config, PLAIN_STATES)
    layers = []
    for index in range(layer_count(config)):
        kind = types[index] == "attention" if index < len(types) else index in attended
        layers.append(norms + (attend if kind else mixer) + forward)
    return assemble(config, PLAIN_STATES, shared_layers(layers))


def falcon_h1(config: Config) -> Blueprint:
    """Falcon-H1: attention and Mamba2 side by side in every layer."""
    hidden = hidden_size(config)
    heads = integer(config, "mamba_n_heads", default=1)
    inner = integer(config, "mamba_d_ssm") or integer(config, "mamba_expand", default=2) * hidden
    shape = Mamba2Shape(
        hidden=hidden,
        heads=heads,
        head_dim=inner // max(1, heads),
        groups=integer(config, "mamba_n_groups", default=1),
        state=integer(config, "mamba_d_state", default=256),
        kernel=integer(config, "mamba_d_conv", default=4),
        bias=flag(config, "mamba_proj_bias"),
        conv_bias=flag(config, "mamba_conv_bias", default=True),
        norm=flag(config, "mamba_rms_norm"),
    )
    traits = Traits()
    layer = (
        norms_of(hidden, 2)
        + attention(config, traits)
        + mamba2(LAYER + "mamba", shape)
        + mlp(config, replace(traits, mlp="feed_forward"))
    )
    return assemble(config, traits, (layer,) * layer_count(config))


def lfm2(config: Config) -> Blueprint:
    """LFM2: short convolutions and attention, dense or with experts."""
    hidden = hidden_size(config)
    traits = Traits(
        qkv_bias=Bias.NEVER,
        output_bias=Bias.NEVER,
        mlp_bias=Bias.NEVER,
        qk_norm=QkNorm.PER_HEAD,
        tied=True,
        mlp="feed_forward",
        moe="feed_forward",
    )
    width = integer(config, "conv_dim") or hidden
    conv = short_convolution(
        LAYER + "conv",
        hidden=hidden,
        width=width,
        kernel=integer(config, "conv_L_cache", default=3),
        bias=flag(config, "conv_bias"),
    )
    size = integer(config, "block_ff_dim", "intermediate_size")
    if flag(config, "block_auto_adjust_ff_dim"):
        size = 2 * size // 3
        multiplier = config.get("block_ffn_dim_multiplier")
        if isinstance(multiplier, (int, float)) and 0 < multiplier < 100:
            size = int(multiplier * size)
        multiple = integer(config, "block_multiple_of", default=256) or 256
        size = multiple * (-(-size // multiple))
    dense = mlp(config, traits, intermediate=size)
    sparse_at = expert_layers(config)
    sparse = moe_modules(config, replace(traits, routing_bias=flag(config, "use_expert_bias")))
    types = items(config, "layer_types")
    attended = integers(config, "full_attn_idxs")
    norms, attend = norms_of(hidden, 2), attention(config, traits)
    layers = []
    for index, is_sparse in enumerate(sparse_at):
        full = types[index] == "full_attention" if index < len(types) else index in attended
        layers.append(norms + (attend if full else conv) + (sparse if is_sparse else dense))
    return assemble(config, traits, shared_layers(layers))


def qwen3_next(config: Config) -> Blueprint:
    """Qwen3-Next and Qwen3.5: gated delta nets and gated attention, dense or with experts."""
    hidden, count = hidden_size(config), layer_count(config)
    traits = Traits(
        mlp_bias=Bias.NEVER,
        qk_norm=QkNorm.PER_HEAD,
        shared_expert_gate=True,
        shared="shared_expert",
        vocabulary_everywhere=text(config, "model_type") == "qwen3_next",
        output_gate=flag(config, "attn_output_gate", default=True),
    )
    net = gated_delta_net(
        LAYER + "linear_attn",
        DeltaNetShape(
            hidden=hidden,
            key_heads=integer(config, "linear_num_key_heads", default=16),
            value_heads=integer(config, "linear_num_value_heads", default=32),
            key_dim=integer(config, "linear_key_head_dim", default=128),
            value_dim=integer(config, "linear_value_head_dim", default=128),
            kernel=integer(config, "linear_conv_kernel_dim", default=4),
        ),
    )
    types = items(config, "layer_types")
    interval = integer(config, "full_attention_interval", default=4) or 4
    sparse_at = expert_layers({"decoder_sparse_step": 1, **config})
    sparse = moe_modules(config, traits) if any(sparse_at) else ()
    dense = mlp(config, traits)
    norms, attend = norms_of(hidden, 2), attention(config, traits)
    layers = []
    for index in range(count):
        full = types[index] == "full_attention" if index < len(types) else (index + 1) % interval == 0
        layers.append(norms + (attend if full else net) + (sparse if sparse_at[index] else dense))
    return assemble(config, traits, shared_layers(layers))


def kimi_linear(config: Config) -> Blueprint:
    """Kimi-Linear: Kimi delta attention and latent attention, with experts."""
    hidden, count = hidden_size(config), layer_count(config)
    linear = section(config, "linear_attn_config")
    delta = kimi_delta_attention(
        LAYER + "self_attn",
        hidden=hidden,
        heads=integer(linear, "num_heads", default=1),
        head_dim=integer(linear, "head_dim", default=128),
        kernel=integer(linear, "short_conv_kernel_size", default=4),
        full_rank_gate=flag(linear, "use_full_rank_gate"),
    )
    traits = replace(
        LATENT_TRAITS,
        routing_bias=True,
        moe="block_sparse_moe",
        smallest_expert_share=integer(config, "min_moe_intermediate_per_partition", default=256),
    )
    # Layers are numbered from one here.
    delta_layers = integers(linear, "kda_layers")
    sparse_at = expert_layers(config)
    sparse = moe_modules(config, traits) if any(sparse_at) else ()
    dense, norms, latent = mlp(config, traits), norms_of(hidden, 2), latent_attention(config)
    if flag(config, "mla_use_output_gate"):
        heads = divided(head_count(config), integer(config, "v_head_dim"))
        latent += (Linear(name=LAYER + "self_attn.g_proj", inputs=whole(hidden), outputs=(heads,)),)
    layers = [
        norms + (delta if index + 1 in delta_layers else latent) + (sparse if sparse_at[index] else dense)
        for index in range(count)
    ]
    return assemble(config, traits, shared_layers(layers))


__all__ = [
    "bamba",
    "falcon_h1",
    "granite_hybrid",
    "jamba",
    "kimi_linear",
    "lfm2",
    "mamba2_model",
    "mamba_model",
    "qwen3_next",
]
