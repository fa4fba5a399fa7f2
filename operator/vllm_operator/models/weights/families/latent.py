"""Decoders of multi-head latent attention: DeepSeek V2 and V3, V3.2 with its indexer, Kimi K2, GLM-5.

Source: vLLM 0.33 `models/deepseek_v2.py:DeepseekV2MLAAttention`, `Indexer`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.models.weights.families.decoder import (
    LAYER,
    assemble,
    head_count,
    hidden_size,
    layer_count,
    layer_norms,
    mlp,
)
from vllm_operator.models.weights.families.experts import expert_layers, moe_modules
from vllm_operator.models.weights.families.traits import Bias, Traits
from vllm_operator.models.weights.fields import integer, items
from vllm_operator.models.weights.modules import Blueprint, Layer, Linear, Module, Tensor, divided, whole

if TYPE_CHECKING:
    from vllm_operator.models.weights.fields import Config

LATENT_TRAITS = Traits(qkv_bias=Bias.NEVER, output_bias=Bias.NEVER, mlp_bias=Bias.NEVER)


def latent_decoder(config: Config) -> Blueprint:
    """A decoder in which every layer has latent attention."""
    shared = layer_norms(LATENT_TRAITS, hidden_size(config)) + latent_attention(config)
    indexed = shared + indexer(config)
    dense, sparse = mlp(config, LATENT_TRAITS), moe_modules(config, LATENT_TRAITS)
    kinds: dict[tuple[bool, bool], Layer] = {}
    layers = []
    for kind in zip(indexer_layers(config), expert_layers(config), strict=True):
        if kind not in kinds:
            kinds[kind] = (indexed if kind[0] else shared) + (sparse if kind[1] else dense)
        layers.append(kinds[kind])
    return assemble(config, LATENT_TRAITS, tuple(layers))


def minicpm3(config: Config) -> Blueprint:
    """MiniCPM3: latent attention in a dense decoder with a tied head."""
    value = hidden_size(config) // max(1, head_count(config))
    return latent_decoder({"tie_word_embeddings": True, "v_head_dim": value, **config})


def longcat_flash(config: Config) -> Blueprint:
    """LongCat-Flash: two attentions and two dense parts per layer around one of experts (longcat_flash.py)."""
    traits = replace(LATENT_TRAITS, routing_bias=True, router_dtype="float32")
    hidden, idle = hidden_size(config), integer(config, "zero_expert_num")
    sizes = {"intermediate_size": integer(config, "ffn_hidden_size", "intermediate_size")}
    experts = {**config, "moe_intermediate_size": integer(config, "expert_ffn_hidden_size", "moe_intermediate_size")}
    half = layer_norms(traits, hidden) + latent_attention(config) + mlp({**config, **sizes}, traits)
    router = Tensor(name=LAYER + "mlp.router", extents=(whole(idle), whole(hidden + 1)), dtype="float32")
    layer = half + half + moe_modules(experts, traits) + (router,)
    return assemble(config, traits, (layer,) * layer_count(config))


def latent_attention(config: Config, *, name: str = LAYER + "self_attn") -> Layer:
    """Down-projections that every rank holds whole, up-projections and output divided by heads."""
    hidden, heads = hidden_size(config), head_count(config)
    nope, rope = integer(config, "qk_nope_head_dim"), integer(config, "qk_rope_head_dim")
    value, rank, query_rank = integer(config, "v_head_dim"), integer(config, "kv_lora_rank"), _query_rank(config)
    modules: list[Module] = []
    if query_rank:
        modules += [
            Linear(
                name=name + ".fused_qkv_a_proj",
                inputs=whole(hidden),
                outputs=(whole(query_rank), whole(rank + rope)),
                parts=("q_a_proj", "kv_a_proj_with_mqa"),
            ),
            Tensor(name=name + ".q_a_layernorm", extents=(whole(query_rank),)),
            Linear(name=name + ".q_b_proj", inputs=whole(query_rank), outputs=(divided(heads, nope + rope),)),
        ]
    else:
        modules += [
            Linear(name=name + ".kv_a_proj_with_mqa", inputs=whole(hidden), outputs=(whole(rank + rope),)),
            Linear(name=name + ".q_proj", inputs=whole(hidden), outputs=(divided(heads, nope + rope),)),
        ]
    modules += [
        Tensor(name=name + ".kv_a_layernorm", extents=(whole(rank),)),
        Linear(name=name + ".kv_b_proj", inputs=whole(rank), outputs=(divided(heads, nope + value),)),
        Linear(name=name + ".o_proj", inputs=divided(heads, value), outputs=(whole(hidden),)),
    ]
    return tuple(modules)


def indexer(config: Config, *, name: str = LAYER + "self_attn.indexer") -> Layer:
    """The indexer of sparse latent attention; every rank holds it whole."""
    hidden, query_rank = hidden_size(config), _query_rank(config)
    heads, dim = integer(config, "index_n_heads"), integer(config, "index_head_dim")
    if not heads or not dim:
        return ()
    return (
        Linear(name=name + ".wq_b", inputs=whole(query_rank), outputs=(whole(heads * dim),)),
        Linear(
            name=name + ".wk_weights_proj",
            inputs=whole(hidden),
            outputs=(whole(dim), whole(heads)),
            quantizable=False,
        ),
        Tensor(name=name + ".k_norm", extents=(whole(dim),), dtype="float32", count=2),
    )


def indexer_layers(config: Config) -> tuple[bool, ...]:
    """For each layer, whether it has an indexer of its own (GLM-5.3 shares them)."""
    count = layer_count(config)
    if not integer(config, "index_n_heads"):
        return (False,) * count
    kinds = items(config, "indexer_types")
    if len(kinds) >= count:
        return tuple(kind == "full" for kind in kinds[:count])
    return (True,) * count


def _query_rank(config: Config) -> int:
    """Rank of the query's down-projection; 1536 where DeepSeek's config class fills the field in, 0 without one."""
    if "q_lora_rank" in config:
        return integer(config, "q_lora_rank")
    return 1536 if config.get("model_type") in ("deepseek_v2", "deepseek_v3", "deepseek_v32") else 0
