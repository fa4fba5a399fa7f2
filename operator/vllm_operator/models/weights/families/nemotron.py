"""Nemotron-H: layers of one mixer each, by a pattern in the config."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.models.weights.families.decoder import (
    LAYER,
    assemble,
    attention,
    feed_forward,
    hidden_size,
    intermediate_size,
)
from vllm_operator.models.weights.families.experts import expert_count, expert_intermediate_size
from vllm_operator.models.weights.families.hybrids import PLAIN_STATES, norms_of, shared_layers
from vllm_operator.models.weights.families.state_space import Mamba2Shape, mamba2
from vllm_operator.models.weights.fields import flag, integer, items, text
from vllm_operator.models.weights.modules import Experts, Layer, Linear, Module, Tensor, whole

if TYPE_CHECKING:
    from vllm_operator.models.weights.fields import Config
    from vllm_operator.models.weights.modules import Blueprint


def nemotron_h(config: Config) -> Blueprint:
    """Nemotron-H: each layer is one mixer (Mamba2, attention, dense or experts) after one norm."""
    hidden = hidden_size(config)
    attend = replace(PLAIN_STATES, gated=False, attention="mixer")
    kinds: dict[str, Layer] = {
        "M": norms_of(hidden) + mamba2(LAYER + "mixer", _mixer(config)),
        "*": norms_of(hidden) + attention(config, attend),
        "E": norms_of(hidden) + _experts(config) if expert_count(config) else (),
    }
    layers = []
    sizes = [size for size in items(config, "intermediate_size") if isinstance(size, int)]
    sizes = sizes or [intermediate_size(config)]
    dense_seen = 0
    for kind in _pattern(config):
        if kind == "-":
            layers.append(norms_of(hidden) + _dense(config, sizes[min(dense_seen, len(sizes) - 1)]))
            dense_seen += 1
        else:
            layers.append(kinds[kind])
    return assemble(config, attend, shared_layers(layers))


def _pattern(config: Config) -> str:
    pattern = text(config, "hybrid_override_pattern")
    if pattern:
        return "".join(kind for kind in pattern if kind in "M*E-")[:4096]
    letters = {"mamba": "M", "attention": "*", "moe": "E", "mlp": "-"}
    return "".join(letters.get(str(kind), "") for kind in items(config, "layers_block_type"))[:4096]


def _mixer(config: Config) -> Mamba2Shape:
    return Mamba2Shape(
        hidden=hidden_size(config),
        heads=integer(config, "mamba_num_heads", default=1),
        head_dim=integer(config, "mamba_head_dim", default=64),
        groups=integer(config, "n_groups", default=1),
        state=integer(config, "ssm_state_size", default=128),
        kernel=integer(config, "conv_kernel", default=4),
        bias=flag(config, "use_bias"),
        conv_bias=flag(config, "use_conv_bias", default=True),
    )


def _dense(config: Config, size: int) -> Layer:
    return feed_forward(
        LAYER + "mixer",
        hidden=hidden_size(config),
        intermediate=size,
        gated=False,
        bias=flag(config, "mlp_bias"),
    )


def _experts(config: Config) -> Layer:
    hidden, count, name = hidden_size(config), expert_count(config), LAYER + "mixer"
    latent = integer(config, "moe_latent_size")
    bias = flag(config, "mlp_bias")
    modules: list[Module] = [
        Linear(name=name + ".gate", inputs=whole(hidden), outputs=(whole(count),), quantizable=False),
        Tensor(name=name + ".correction_bias", extents=(whole(count),), dtype="float32"),
        Experts(
            name=name + ".experts",
            count=count,
            hidden=latent or hidden,
            intermediate=expert_intermediate_size(config),
            gated=False,
        ),
    ]
    shared = integer(config, "moe_shared_expert_intermediate_size") * integer(config, "n_shared_experts")
    if shared:
        modules.extend(
            feed_forward(name + ".shared_experts", hidden=hidden, intermediate=shared, gated=False, bias=bias)
        )
    if latent:
        modules += [
            Linear(name=name + ".fc1_latent_proj", inputs=whole(hidden), outputs=(whole(latent),), bias=bias),
            Linear(name=name + ".fc2_latent_proj", inputs=whole(latent), outputs=(whole(hidden),), bias=bias),
        ]
    return tuple(modules)
