"""Decoders of plain attention, dense or with experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.weights.families.experts import expert_layers, moe_modules
from vllm_operator.models.weights.families.rotary import rotary_tables
from vllm_operator.models.weights.families.traits import Bias, QkNorm, Traits
from vllm_operator.models.weights.fields import flag, integer, section
from vllm_operator.models.weights.modules import (
    Blueprint,
    Extent,
    Layer,
    Linear,
    Module,
    Tensor,
    Vocabulary,
    divided,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.models.weights.fields import Config

LAYER = "model.layers.{layer}."


def dbrx(config: Config) -> Blueprint:
    """DBRX keeps its sizes in two sections of its config."""
    attention_section, experts_section = section(config, "attn_config"), section(config, "ffn_config")
    flat = {
        **config,
        "num_key_value_heads": integer(attention_section, "kv_n_heads"),
        "num_local_experts": integer(experts_section, "moe_num_experts"),
        "moe_intermediate_size": integer(experts_section, "ffn_hidden_size"),
        "tie_word_embeddings": False,
    }
    # Its norms are torch's own, with a bias.
    return decoder(flat, Traits(norm_bias=True, moe="ffn"))


def decoder(config: Config, traits: Traits, *, exact: bool = True) -> Blueprint:
    """A decoder whose layers differ only in being dense or sparse."""
    hidden = hidden_size(config)
    shared = layer_norms(traits, hidden) + attention(config, traits)
    dense: Layer = shared + mlp(config, traits)
    sparse_at = expert_layers(config)
    sparse: Layer = shared + moe_modules(config, traits) if any(sparse_at) else ()
    layers = tuple(sparse if is_sparse else dense for is_sparse in sparse_at)
    return assemble(config, traits, layers, exact=exact)


def assemble(config: Config, traits: Traits, layers: tuple[Layer, ...], *, exact: bool = True) -> Blueprint:
    """A decoder of these layers between its embedding and its head."""
    hidden = hidden_size(config)
    first: list[Module] = [Vocabulary(name="model.embed_tokens", rows=vocabulary_size(config), columns=hidden)]
    if traits.positions is not None:
        rows = integer(config, "max_position_embeddings", "n_positions") + traits.positions
        first.append(Tensor(name="model.embed_positions", extents=(whole(rows), whole(hidden))))
    if traits.embedding_norm:
        first.append(Tensor(name="model.embed_norm", extents=(whole(hidden),), count=2))
    last: list[Module] = []
    if traits.parameters_in_norms:
        last.append(Tensor(name="model.norm", extents=(whole(hidden),), count=2 if traits.norm_bias else 1))
    tied = flag(config, "tie_word_embeddings", default=traits.tied)
    if not tied:
        last.append(output_head(config, bias=traits.head_bias))
    return Blueprint(
        first=tuple(first),
        layers=layers,
        last=tuple(last),
        tied=tied,
        vocabulary_everywhere=traits.vocabulary_everywhere,
        rotary_tables=rotary_tables(config, head_dim=head_dim(config)),
        exact=exact,
    )


def output_head(config: Config, *, bias: bool = False) -> Vocabulary:
    """The separate output head."""
    return Vocabulary(name="lm_head", rows=vocabulary_size(config), columns=hidden_size(config), head=True, bias=bias)


def layer_norms(traits: Traits, hidden: int) -> Layer:
    """The norms over the hidden size of one layer."""
    if not traits.parameters_in_norms:
        return ()
    count = traits.norms * (2 if traits.norm_bias else 1)
    return (Tensor(name=LAYER + "norms", extents=(whole(hidden),), count=count),)


def attention(
    config: Config,
    traits: Traits,
    *,
    heads: int | None = None,
    kv_heads: int | None = None,
    dim: int | None = None,
    value_dim: int | None = None,
) -> Layer:
    """Fused query, key and value projection, output projection and their norms."""
    heads = heads or head_count(config)
    kv_heads = kv_heads or kv_head_count(config)
    dim = dim or head_dim(config)
    value_dim = value_dim or dim
    hidden = hidden_size(config)
    name = LAYER + traits.attention
    qkv_bias = has_bias(config, traits.qkv_bias, traits.bias_fields, default=traits.bias_default)
    output_bias = has_bias(config, traits.output_bias, traits.output_bias_fields, default=traits.bias_default)
    queries = divided(heads, 2 * dim if traits.output_gate else dim)
    modules: list[Module] = [
        Linear(
            name=name + ".qkv_proj",
            inputs=whole(hidden),
            outputs=(queries, divided(kv_heads, dim), divided(kv_heads, value_dim)),
            bias=qkv_bias,
            parts=("q_proj", "k_proj", "v_proj"),
        ),
        Linear(name=name + ".o_proj", inputs=divided(heads, value_dim), outputs=(whole(hidden),), bias=output_bias),
    ]
    kind = traits.qk_norm
    if kind is QkNorm.CONFIG:
        kind = QkNorm.PER_HEAD if flag(config, "use_qk_norm", "qk_layernorm") else QkNorm.NONE
    if traits.sinks:
        modules.append(Tensor(name=name + ".sinks", extents=(divided(heads),)))
    modules.extend(query_key_norms(name, kind, heads=heads, kv_heads=kv_heads, dim=dim))
    return tuple(modules)


def query_key_norms(name: str, kind: QkNorm, *, heads: int, kv_heads: int, dim: int) -> Layer:
    """The norms of queries and keys."""
    match kind:
        case QkNorm.NONE | QkNorm.CONFIG:
            return ()
        case QkNorm.PER_HEAD:
            return (Tensor(name=name + ".qk_norm", extents=(whole(dim),), count=2),)
        case QkNorm.FULL:
            return (Tensor(name=name + ".qk_norm", extents=(whole((heads + kv_heads) * dim),)),)
        case QkNorm.FULL_DIVIDED:
            return (
                Tensor(name=name + ".q_norm", extents=(divided(heads, dim),)),
                Tensor(name=name + ".k_norm", extents=(divided(kv_heads, dim),)),
            )


def mlp(config: Config, traits: Traits, *, intermediate: int | None = None, name: str | None = None) -> Layer:
    """A dense feed-forward layer."""
    size = intermediate or intermediate_size(config)
    bias = has_bias(config, traits.mlp_bias, traits.mlp_bias_fields, default=traits.bias_default)
    return feed_forward(
        name or LAYER + traits.mlp,
        hidden=hidden_size(config),
        intermediate=size,
        gated=traits.gated,
        bias=bias,
        shard=divided if traits.mlp_divided else whole,
    )


def feed_forward(
    name: str,
    *,
    hidden: int,
    intermediate: int,
    gated: bool = True,
    bias: bool = False,
    shard: Callable[[int], Extent] = divided,
    quantizable: bool = True,
) -> Layer:
    """Up (and gate) and down projections; `shard=whole` replicates them on every rank."""
    up = shard(intermediate)
    return (
        Linear(
            name=name + (".gate_up_proj" if gated else ".up_proj"),
            inputs=whole(hidden),
            outputs=(up, up) if gated else (up,),
            bias=bias,
            parts=("gate_proj", "up_proj") if gated else (),
            quantizable=quantizable,
        ),
        Linear(name=name + ".down_proj", inputs=up, outputs=(whole(hidden),), bias=bias, quantizable=quantizable),
    )


def has_bias(config: Config, rule: Bias, names: tuple[str, ...], *, default: bool = False) -> bool:
    """Whether a layer has a bias, from the family's rule and the config's fields."""
    if rule is Bias.CONFIG:
        return flag(config, *names, default=default)
    return rule is Bias.ALWAYS


def hidden_size(config: Config) -> int:
    """Width of the residual stream."""
    return integer(config, "hidden_size", "n_embd", "d_model", "dim")


def vocabulary_size(config: Config) -> int:
    """Rows of the token embedding."""
    return integer(config, "padded_vocab_size", "vocab_size")


def layer_count(config: Config) -> int:
    """Number of decoder layers."""
    return min(integer(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 4096)


def head_count(config: Config) -> int:
    """Query heads."""
    return integer(config, "num_attention_heads", "n_head", "n_heads", "num_heads", default=1) or 1


def kv_head_count(config: Config) -> int:
    """Key and value heads, with the conventions of Falcon, GPTBigCode, MPT and ChatGLM."""
    heads = head_count(config)
    if config.get("model_type") == "falcon" or "new_decoder_architecture" in config:
        if flag(config, "new_decoder_architecture"):
            return integer(config, "num_kv_heads", "n_head_kv", default=heads) or heads
        return 1 if flag(config, "multi_query", default=True) else heads
    if flag(config, "multi_query"):
        return 1
    if flag(config, "multi_query_attention"):
        return integer(config, "multi_query_group_num", default=heads) or heads
    return integer(config, "num_key_value_heads", "num_kv_heads", "n_head_kv", default=heads) or heads


def head_dim(config: Config) -> int:
    """Elements of one query or key head."""
    given = integer(config, "head_dim", "kv_channels", "attention_head_dim")
    return given or hidden_size(config) // head_count(config)


def intermediate_size(config: Config) -> int:
    """Width of the dense feed-forward layer."""
    hidden = hidden_size(config)
    given = integer(config, "intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "ffn_intermediate_size")
    if config.get("model_type") == "qwen":
        return given // 2
    return given or 4 * hidden
