"""Decoders whose attention layers differ from one another: MiMo-V2, Llama 4, Gemma 4, Gemma 3n.

Sources, vLLM 0.33: `models/{mimo_v2,llama4,gemma4,gemma3n}.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.models.weights.families.decoder import (
    LAYER,
    assemble,
    attention,
    feed_forward,
    head_count,
    head_dim,
    hidden_size,
    intermediate_size,
    kv_head_count,
    layer_count,
    mlp,
)
from vllm_operator.models.weights.families.experts import (
    expert_count,
    expert_intermediate_size,
    expert_layers,
    moe_modules,
)
from vllm_operator.models.weights.families.traits import Bias, QkNorm, Traits
from vllm_operator.models.weights.fields import flag, integer, integers, items, section
from vllm_operator.models.weights.modules import (
    Blueprint,
    Experts,
    Layer,
    Linear,
    Module,
    Tensor,
    Vocabulary,
    divided,
    whole,
)

if TYPE_CHECKING:
    from vllm_operator.models.weights.fields import Config


def _norms(hidden: int, count: int = 2) -> Layer:
    return (Tensor(name=LAYER + "norms", extents=(whole(hidden),), count=count),)


def minimax_text(config: Config) -> Blueprint:
    """MiniMax-Text and M1: lightning attention with an output gate, and full attention, with experts."""
    hidden = hidden_size(config)
    traits = Traits(
        qkv_bias=Bias.NEVER,
        output_bias=Bias.NEVER,
        mlp_bias=Bias.NEVER,
        router_dtype="float32",
        moe="block_sparse_moe",
    )
    inner, name = divided(head_count(config), head_dim(config)), LAYER + "self_attn"
    lightning: Layer = (
        Linear(name=name + ".qkv_proj", inputs=whole(hidden), outputs=(inner, inner, inner)),
        Linear(name=name + ".output_gate", inputs=whole(hidden), outputs=(inner,)),
        Linear(name=name + ".out_proj", inputs=inner, outputs=(whole(hidden),)),
        Tensor(name=name + ".norm", extents=(inner,)),
    )
    counts = items(config, "num_local_experts")
    experts = counts[0] if counts and isinstance(counts[0], int) else expert_count(config)
    forward = moe_modules({**config, "num_local_experts": experts}, traits) if experts else mlp(config, traits)
    kinds = items(config, "attn_type_list")
    norms, full = _norms(hidden), attention(config, traits)
    by_kind = {True: norms + full + forward, False: norms + lightning + forward}
    layers = tuple(by_kind[index >= len(kinds) or kinds[index] == 1] for index in range(layer_count(config)))
    return assemble(config, traits, layers)


def mimo_v2(config: Config) -> Blueprint:
    """MiMo-V2: sliding layers have heads of their own and sinks; values are narrower than keys."""
    traits = Traits(mlp_bias=Bias.NEVER, router_dtype="float32")
    norms = _norms(hidden_size(config))
    full = attention(
        config,
        replace(traits, sinks=flag(config, "add_full_attention_sink_bias")),
        value_dim=integer(config, "v_head_dim"),
    )
    local = attention(
        config,
        replace(traits, sinks=flag(config, "add_swa_attention_sink_bias")),
        heads=integer(config, "swa_num_attention_heads"),
        kv_heads=integer(config, "swa_num_key_value_heads"),
        dim=integer(config, "swa_head_dim"),
        value_dim=integer(config, "swa_v_head_dim") or integer(config, "v_head_dim"),
    )
    pattern = items(config, "hybrid_layer_pattern")
    sparse_at = expert_layers(config)
    sparse = moe_modules(config, traits) if any(sparse_at) else ()
    dense = mlp(config, traits)
    kinds: dict[tuple[bool, bool], Layer] = {}
    layers = []
    for index, is_sparse in enumerate(sparse_at):
        kind = (index < len(pattern) and pattern[index] == 1, is_sparse)
        if kind not in kinds:
            kinds[kind] = norms + (local if kind[0] else full) + (sparse if kind[1] else dense)
        layers.append(kinds[kind])
    return assemble(config, traits, tuple(layers))


def minimax_m3(config: Config) -> Blueprint:
    """MiniMax M3: block-sparse layers project index queries and keys together with the others."""
    traits = Traits(
        qkv_bias=Bias.NEVER,
        output_bias=Bias.NEVER,
        mlp_bias=Bias.NEVER,
        qk_norm=QkNorm.PER_HEAD,
        router_dtype="float32",
        routing_bias=True,
        moe="block_sparse_moe",
    )
    norms = _norms(hidden_size(config))
    full = norms + attention(config, traits)
    indexed = norms + _indexed_attention(config)
    sparse_section = section(config, "sparse_attention_config")
    indexed_at = items(sparse_section, "sparse_attention_freq")
    sparse_at = expert_layers(config)
    shared = integer(config, "n_shared_experts") * integer(config, "intermediate_size")
    sparse = moe_modules({**config, "shared_expert_intermediate_size": shared}, traits) if any(sparse_at) else ()
    dense = mlp(config, traits, intermediate=integer(config, "dense_intermediate_size"))
    kinds: dict[tuple[bool, bool], Layer] = {}
    layers = []
    for index, is_sparse in enumerate(sparse_at):
        kind = (index < len(indexed_at) and bool(indexed_at[index]), is_sparse)
        if kind not in kinds:
            kinds[kind] = (indexed if kind[0] else full) + (sparse if kind[1] else dense)
        layers.append(kinds[kind])
    return assemble(config, traits, tuple(layers))


def _indexed_attention(config: Config) -> Layer:
    heads, kv_heads, dim = head_count(config), kv_head_count(config), head_dim(config)
    sparse = section(config, "sparse_attention_config")
    index_dim = integer(sparse, "sparse_index_dim", default=128)
    index_queries = divided(integer(sparse, "sparse_num_index_heads", default=kv_heads), index_dim)
    name, keys = LAYER + "self_attn", divided(kv_heads, dim)
    return (
        Linear(
            name=name + ".qkv_proj",
            inputs=whole(hidden_size(config)),
            outputs=(divided(heads, dim), keys, keys, index_queries, whole(index_dim)),
            parts=("q_proj", "k_proj", "v_proj"),
        ),
        Linear(name=name + ".o_proj", inputs=divided(heads, dim), outputs=(whole(hidden_size(config)),)),
        Tensor(name=name + ".norms", extents=(whole(2 * dim + 2 * index_dim),)),
    )


def llama4(config: Config) -> Blueprint:
    """Llama 4: experts with one shared expert of the same width, dense layers wider."""
    traits = Traits(mlp_bias=Bias.NEVER, mlp="feed_forward", moe="feed_forward", shared="shared_expert")
    norms = _norms(hidden_size(config)) + attention(config, traits)
    sparse_at = expert_layers({"interleave_moe_layer_step": 1, **config})
    named = integers(config, "moe_layers")
    width = integer(config, "intermediate_size")
    sparse = norms + moe_modules({**config, "shared_expert_intermediate_size": width}, traits)
    dense = norms + mlp(config, traits, intermediate=integer(config, "intermediate_size_mlp", default=width))
    layers = tuple(
        sparse if (index in named if named else is_sparse) else dense for index, is_sparse in enumerate(sparse_at)
    )
    return assemble(config, traits, layers)


def gemma4(config: Config) -> Blueprint:
    """Gemma 4: wider heads in global layers, keys that serve as values, a dense and a sparse path side by side."""
    hidden, count = hidden_size(config), layer_count(config)
    traits = Traits(tied=True, mlp_bias=Bias.NEVER, qk_norm=QkNorm.PER_HEAD, norms=4)
    shared_from = count - integer(config, "num_kv_shared_layers")
    types = items(config, "layer_types")
    sparse = _gemma4_experts(config) if flag(config, "enable_moe_block") else ()
    gates = _per_layer_inputs(config)
    kinds: dict[tuple[bool, bool], Layer] = {}
    layers = []
    for index in range(count):
        full = index < len(types) and types[index] == "full_attention"
        double = index >= shared_from and flag(config, "use_double_wide_mlp")
        if (full, double) not in kinds:
            width = intermediate_size(config) * (2 if double else 1)
            kinds[full, double] = (
                _norms(hidden, 4)
                + _gemma4_attention(config, full=full)
                + mlp(config, traits, intermediate=width)
                + gates
                + sparse
            )
        layers.append(kinds[full, double])
    model = assemble(config, traits, tuple(layers))
    return replace(model, first=model.first + _per_layer_embeddings(config))


def _gemma4_attention(config: Config, *, full: bool) -> Layer:
    dim = integer(config, "global_head_dim", default=head_dim(config)) if full else head_dim(config)
    shared = full and flag(config, "attention_k_eq_v")
    kv_heads = kv_head_count(config)
    if shared:
        kv_heads = integer(config, "num_global_key_value_heads", default=kv_heads) or kv_heads
    heads = head_count(config)
    name, hidden = LAYER + "self_attn", hidden_size(config)
    keys = divided(kv_heads, dim)
    return (
        Linear(
            name=name + ".qkv_proj",
            inputs=whole(hidden),
            outputs=(divided(heads, dim), keys, keys),
            parts=("q_proj", "k_proj") if shared else ("q_proj", "k_proj", "v_proj"),
        ),
        Linear(name=name + ".o_proj", inputs=divided(heads, dim), outputs=(whole(hidden),)),
        Tensor(name=name + ".qk_norm", extents=(whole(dim),), count=2),
    )


def _gemma4_experts(config: Config) -> Layer:
    hidden, count = hidden_size(config), expert_count(config)
    return (
        _norms(hidden, 3)[0],
        Tensor(name=LAYER + "router.scale", extents=(whole(hidden),)),
        Linear(name=LAYER + "router.proj", inputs=whole(hidden), outputs=(whole(count),), quantizable=False),
        Tensor(name=LAYER + "router.per_expert_scale", extents=(whole(count),)),
        Experts(
            name=LAYER + "moe.experts",
            count=count,
            hidden=hidden,
            intermediate=expert_intermediate_size(config),
        ),
    )


def _per_layer_inputs(config: Config) -> Layer:
    """The gate and projection of per-layer embeddings in each layer; every rank holds them whole."""
    hidden, width = hidden_size(config), integer(config, "hidden_size_per_layer_input")
    if not width:
        return ()
    return (
        Linear(name=LAYER + "per_layer_input_gate", inputs=whole(hidden), outputs=(whole(width),)),
        Linear(name=LAYER + "per_layer_projection", inputs=whole(width), outputs=(whole(hidden),)),
        Tensor(name=LAYER + "post_per_layer_input_norm", extents=(whole(hidden),)),
    )


def _per_layer_embeddings(config: Config) -> Layer:
    hidden, width = hidden_size(config), integer(config, "hidden_size_per_layer_input")
    if not width:
        return ()
    together = width * layer_count(config)
    rows = integer(config, "vocab_size_per_layer_input")
    return (
        Vocabulary(name="model.embed_tokens_per_layer", rows=rows, columns=together),
        Linear(name="model.per_layer_model_projection", inputs=whole(hidden), outputs=(divided(together),)),
        Tensor(name="model.per_layer_projection_norm", extents=(whole(width),)),
    )


def gemma3n(config: Config) -> Blueprint:
    """Gemma 3n: alternating updates over several streams, a low-rank path, per-layer embeddings."""
    hidden, count = hidden_size(config), layer_count(config)
    traits = Traits(tied=True, mlp_bias=Bias.NEVER, qk_norm=QkNorm.PER_HEAD, norms=4)
    widths = items(config, "intermediate_size")
    beside = _norms(hidden, 4) + _streams(config) + _per_layer_inputs(config)
    bases = {False: attention(config, traits) + beside, True: _borrowing_attention(config) + beside}
    borrows_from = count - integer(config, "num_kv_shared_layers")
    kinds: dict[tuple[int, bool], Layer] = {}
    layers = []
    for index in range(count):
        width = widths[index] if index < len(widths) else intermediate_size(config)
        width = width if isinstance(width, int) and 0 < width < 10**7 else 0
        kind = (width, index >= borrows_from)
        if kind not in kinds:
            kinds[kind] = bases[kind[1]] + feed_forward(LAYER + "mlp", hidden=hidden, intermediate=width)
        layers.append(kinds[kind])
    model = assemble(config, traits, tuple(layers))
    inputs = integer(config, "altup_num_inputs", default=4)
    streams: list[Module] = [
        Linear(
            name="model.altup_projections",
            inputs=whole(hidden),
            outputs=(divided(hidden),),
            count=2 * max(0, inputs - 1),
            quantizable=False,
        )
    ]
    return replace(model, first=model.first + _per_layer_embeddings(config) + tuple(streams))


def _borrowing_attention(config: Config) -> Layer:
    """Attention of a layer that reads another layer's keys and values: it makes queries only."""
    heads, dim, name = head_count(config), head_dim(config), LAYER + "self_attn"
    return (
        Linear(name=name + ".q_proj", inputs=whole(hidden_size(config)), outputs=(divided(heads, dim),)),
        Linear(name=name + ".o_proj", inputs=divided(heads, dim), outputs=(whole(hidden_size(config)),)),
        Tensor(name=name + ".q_norm", extents=(whole(dim),)),
    )


def _streams(config: Config) -> Layer:
    hidden, inputs = hidden_size(config), integer(config, "altup_num_inputs", default=4)
    rank = integer(config, "laurel_rank", default=64)
    return (
        Tensor(name=LAYER + "altup", extents=(whole(inputs * inputs + inputs**3 + inputs * hidden + 2 * hidden),)),
        Linear(name=LAYER + "laurel.linear_left", inputs=whole(hidden), outputs=(divided(rank),)),
        Linear(name=LAYER + "laurel.linear_right", inputs=divided(rank), outputs=(whole(hidden),)),
        Tensor(name=LAYER + "laurel.norm", extents=(whole(hidden),)),
    )
