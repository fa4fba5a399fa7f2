"""DeepSeek V4: one compressed key-value head, compressors of two strengths, hash-routed layers, hyper-connections.

Source: vLLM 0.33 `models/deepseek_v4/` (attention, compressor, indexer, model).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.weights.families.decoder import (
    LAYER,
    assemble,
    feed_forward,
    head_count,
    head_dim,
    hidden_size,
    layer_count,
    vocabulary_size,
)
from vllm_operator.models.weights.families.experts import (
    expert_count,
    expert_intermediate_size,
    shared_intermediate_size,
)
from vllm_operator.models.weights.families.latent import LATENT_TRAITS
from vllm_operator.models.weights.fields import integer, items
from vllm_operator.models.weights.modules import Blueprint, Experts, Layer, Linear, Module, Tensor, divided, whole

if TYPE_CHECKING:
    from vllm_operator.models.weights.fields import Config

_OVERLAPPING_RATIO = 4
"""At this ratio neighbouring windows overlap, which doubles the compressor's width, and an indexer chooses."""


def deepseek_v4(config: Config) -> Blueprint:
    """A DeepSeek V4 decoder; every layer has routed experts."""
    hidden, count = hidden_size(config), layer_count(config)
    ratios = items(config, "compress_ratios")
    hashed = integer(config, "num_hash_layers")
    shared = _attention(config) + _hyper_connections(config)
    shared += (Tensor(name=LAYER + "norms", extents=(whole(hidden),), count=2),)
    kinds: dict[tuple[int, bool], Layer] = {}
    layers = []
    for index in range(count):
        ratio = ratios[index] if index < len(ratios) and isinstance(ratios[index], int) else 0
        kind = (max(0, min(ratio, 1 << 20)), index < hashed)
        if kind not in kinds:
            kinds[kind] = shared + _compression(config, kind[0]) + _experts(config, hashed=kind[1])
        layers.append(kinds[kind])
    model = assemble(config, LATENT_TRAITS, tuple(layers))
    streams = integer(config, "hc_mult", default=1)
    head = Tensor(name="hc_head", extents=(whole(streams * (streams * hidden + 1) + 1),), dtype="float32")
    return Blueprint(
        first=model.first,
        layers=model.layers,
        last=(*model.last, head),
        tied=model.tied,
        rotary_tables=((2 * integer(config, "max_position_embeddings"), 2 * integer(config, "qk_rope_head_dim")),) * 2,
    )


def _attention(config: Config) -> Layer:
    hidden, heads, dim = hidden_size(config), head_count(config), head_dim(config)
    query_rank, groups = integer(config, "q_lora_rank"), integer(config, "o_groups", default=1) or 1
    output_rank = integer(config, "o_lora_rank")
    name = LAYER + "attn"
    return (
        Linear(
            name=name + ".fused_wqa_wkv",
            inputs=whole(hidden),
            outputs=(whole(query_rank), whole(dim)),
            parts=("wq_a", "wkv"),
        ),
        Tensor(name=name + ".norms", extents=(whole(query_rank + dim),)),
        Linear(name=name + ".wq_b", inputs=whole(query_rank), outputs=(divided(heads, dim),)),
        Linear(name=name + ".wo_a", inputs=whole(heads * dim // groups), outputs=(divided(groups, output_rank),)),
        Linear(name=name + ".wo_b", inputs=divided(groups, output_rank), outputs=(whole(hidden),)),
        Tensor(name=name + ".attn_sink", extents=(whole(heads),), dtype="float32"),
    )


def _compression(config: Config, ratio: int) -> Layer:
    if not ratio:
        return ()
    hidden, dim = hidden_size(config), head_dim(config)
    layer = _compressor(LAYER + "attn.compressor", hidden=hidden, dim=dim, ratio=ratio)
    if ratio != _OVERLAPPING_RATIO:
        return layer
    heads, index_dim = integer(config, "index_n_heads"), integer(config, "index_head_dim")
    name = LAYER + "attn.indexer"
    return (
        *layer,
        *_compressor(name + ".compressor", hidden=hidden, dim=index_dim, ratio=ratio),
        Linear(name=name + ".wq_b", inputs=whole(integer(config, "q_lora_rank")), outputs=(whole(heads * index_dim),)),
        Linear(name=name + ".weights_proj", inputs=whole(hidden), outputs=(whole(heads),), quantizable=False),
    )


def _compressor(name: str, *, hidden: int, dim: int, ratio: int) -> Layer:
    width = dim * (2 if ratio == _OVERLAPPING_RATIO else 1)
    return (
        Linear(
            name=name + ".fused_wkv_wgate",
            inputs=whole(hidden),
            outputs=(whole(width), whole(width)),
            quantizable=False,
        ),
        Tensor(name=name + ".ape", extents=(whole(ratio), whole(width)), dtype="float32"),
        Tensor(name=name + ".norm", extents=(whole(dim),)),
    )


def _hyper_connections(config: Config) -> Layer:
    """The mixing of residual streams before attention and before the experts, in float32."""
    streams = integer(config, "hc_mult", default=1)
    mixed = (2 + streams) * streams
    each = mixed * streams * hidden_size(config) + mixed + 3
    return (Tensor(name=LAYER + "hc", extents=(whole(each),), dtype="float32", count=2),)


def _experts(config: Config, *, hashed: bool) -> Layer:
    hidden, count, name = hidden_size(config), expert_count(config), LAYER + "ffn"
    modules: list[Module] = [
        Linear(name=name + ".gate", inputs=whole(hidden), outputs=(whole(count),), quantizable=False),
        Experts(
            name=name + ".experts",
            count=count,
            hidden=hidden,
            intermediate=expert_intermediate_size(config),
        ),
    ]
    if hashed:
        table = vocabulary_size(config) * integer(config, "num_experts_per_tok")
        modules.append(Tensor(name=name + ".tid2eid", extents=(whole(table),), dtype="int32"))
    else:
        modules.append(Tensor(name=name + ".correction_bias", extents=(whole(count),), dtype="float32"))
    shared = shared_intermediate_size(config)
    if shared:
        modules.extend(feed_forward(name + ".shared_experts", hidden=hidden, intermediate=shared))
    return tuple(modules)
