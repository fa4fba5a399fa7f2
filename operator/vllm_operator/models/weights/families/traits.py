"""What tells one transformer family from another, as data: biases, norms, gating, tying.

Each entry follows the model class of that name in vLLM 0.33 (`vllm/model_executor/models/`). A family that is not
listed is counted as a plain Llama-like decoder and marked as not exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class QkNorm(StrEnum):
    """Normalisation of queries and keys."""

    NONE = "None"
    PER_HEAD = "PerHead"
    """One vector of head_dim for queries, one for keys."""
    FULL = "Full"
    """Vectors over all heads, held whole by each rank."""
    FULL_DIVIDED = "FullDivided"
    """Vectors over all heads, divided with them."""
    CONFIG = "Config"
    """One vector of head_dim each where the config's `use_qk_norm` says so."""


class Bias(StrEnum):
    """Where a family's linear layers have a bias."""

    NEVER = "Never"
    ALWAYS = "Always"
    CONFIG = "Config"
    """As the config's own field says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The shape of one family's decoder layer."""

    qkv_bias: Bias = Bias.CONFIG
    output_bias: Bias = Bias.CONFIG
    mlp_bias: Bias = Bias.CONFIG
    bias_fields: tuple[str, ...] = ("attention_bias", "qkv_bias")
    output_bias_fields: tuple[str, ...] = ("attention_out_bias", "attention_bias")
    mlp_bias_fields: tuple[str, ...] = ("mlp_bias",)
    bias_default: bool = False
    gated: bool = True
    mlp_divided: bool = True
    norms: int = 2
    norm_bias: bool = False
    qk_norm: QkNorm = QkNorm.NONE
    tied: bool = False
    """What holds when the config does not say."""
    positions: int | None = None
    """Learned positions: this many more than the config's maximum; None without."""
    embedding_norm: bool = False
    head_bias: bool = False
    parameters_in_norms: bool = True
    shared_expert_gate: bool = False
    routing_bias: bool = False
    """A float32 correction bias for each expert, unless the config says otherwise."""
    attention: str = "self_attn"
    mlp: str = "mlp"
    moe: str = "mlp"
    router_bias: bool = False
    router_dtype: str | None = None
    """The router's own dtype, where it is not the model's."""
    expert_bias: bool = False
    shared: str = "shared_experts"
    sinks: bool = False
    """One learned attention sink for each query head."""
    smallest_expert_share: int = 1
    vocabulary_everywhere: bool = False
    output_gate: bool = False
    """The query projection also makes a gate of the same size (`attn_output_gate`)."""


_LLAMA = Traits()
_QWEN2 = Traits(qkv_bias=Bias.ALWAYS, output_bias=Bias.NEVER, mlp_bias=Bias.NEVER)
_QWEN3 = Traits(qk_norm=QkNorm.PER_HEAD, mlp_bias=Bias.NEVER)
_GEMMA = Traits(tied=True, mlp_bias=Bias.NEVER)
_NO_BIAS = Traits(qkv_bias=Bias.NEVER, output_bias=Bias.NEVER, mlp_bias=Bias.NEVER)
_ALL_BIAS = Traits(qkv_bias=Bias.ALWAYS, output_bias=Bias.ALWAYS, mlp_bias=Bias.ALWAYS, gated=False, norm_bias=True)
_DEEPSEEK_MOE = Traits(output_bias=Bias.NEVER, mlp_bias=Bias.NEVER)

_GLM4 = Traits(output_bias=Bias.NEVER, mlp_bias=Bias.NEVER, norms=4)
_GLM4_MOE = Traits(
    output_bias=Bias.NEVER, mlp_bias=Bias.NEVER, routing_bias=True, router_dtype="float32", qk_norm=QkNorm.CONFIG
)

TRAITS: dict[str, Traits] = {
    "llama": _LLAMA,
    "mistral": _NO_BIAS,
    "ministral3": _NO_BIAS,
    "mixtral": Traits(qkv_bias=Bias.NEVER, output_bias=Bias.NEVER, mlp_bias=Bias.NEVER, moe="block_sparse_moe"),
    "yi": _LLAMA,
    "aquila": _LLAMA,
    "solar": _LLAMA,
    "xverse": _LLAMA,
    "decilm": _LLAMA,
    "smollm3": Traits(tied=True),
    "granite": _LLAMA,
    "granitemoe": Traits(mlp_bias=Bias.NEVER, moe="block_sparse_moe"),
    "granitemoeshared": Traits(mlp_bias=Bias.NEVER, moe="block_sparse_moe"),
    "seed_oss": Traits(qkv_bias=Bias.CONFIG, output_bias=Bias.CONFIG, output_bias_fields=("attention_out_bias",)),
    "arcee": Traits(gated=False),
    "minicpm": _LLAMA,
    "internlm": Traits(bias_fields=("bias",), output_bias_fields=("bias",), mlp_bias=Bias.NEVER),
    "internlm2": Traits(bias_fields=("bias",), output_bias_fields=("bias",), mlp_bias=Bias.NEVER),
    "internlm3": Traits(output_bias_fields=("bias",), mlp_bias_fields=("bias",)),
    "baichuan": _NO_BIAS,
    "orion": Traits(norm_bias=True),
    "stablelm": Traits(bias_fields=("use_qkv_bias",), output_bias=Bias.NEVER, mlp_bias=Bias.NEVER, norm_bias=True),
    "olmo": Traits(mlp_bias=Bias.NEVER, parameters_in_norms=False),
    "olmo2": Traits(mlp_bias=Bias.NEVER, qk_norm=QkNorm.FULL),
    "olmo3": Traits(mlp_bias=Bias.NEVER, qk_norm=QkNorm.FULL),
    "olmoe": Traits(mlp_bias=Bias.NEVER, qk_norm=QkNorm.FULL),
    "flex_olmo": Traits(mlp_bias=Bias.NEVER, qk_norm=QkNorm.FULL),
    "qwen": Traits(qkv_bias=Bias.ALWAYS, output_bias=Bias.NEVER, mlp_bias=Bias.NEVER),
    "qwen2": _QWEN2,
    "qwen2_moe": Traits(
        qkv_bias=Bias.ALWAYS,
        output_bias=Bias.NEVER,
        mlp_bias=Bias.NEVER,
        shared_expert_gate=True,
        shared="shared_expert",
    ),
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3,
    "qwen3_vl_moe_text": _QWEN3,
    "qwen3_vl_text": _QWEN3,
    "qwen2_vl_text": _QWEN2,
    "qwen2_vl": _QWEN2,
    "qwen2_5_vl_text": _QWEN2,
    "qwen2_5_vl": _QWEN2,
    "gemma": _GEMMA,
    "gemma2": Traits(tied=True, mlp_bias=Bias.NEVER, norms=4),
    "gemma3_text": Traits(tied=True, mlp_bias=Bias.NEVER, norms=4, qk_norm=QkNorm.PER_HEAD),
    "phi3": _NO_BIAS,
    "phi": Traits(
        qkv_bias=Bias.ALWAYS,
        output_bias=Bias.ALWAYS,
        mlp_bias=Bias.ALWAYS,
        gated=False,
        norms=1,
        norm_bias=True,
        head_bias=True,
    ),
    "phimoe": Traits(norm_bias=True, moe="block_sparse_moe"),
    "cohere": Traits(tied=True, mlp_bias=Bias.NEVER, norms=1),
    "cohere2": Traits(tied=True, mlp_bias=Bias.NEVER, norms=1),
    "starcoder2": Traits(
        bias_fields=("use_bias",),
        output_bias_fields=("use_bias",),
        mlp_bias_fields=("use_bias",),
        bias_default=True,
        gated=False,
        norm_bias=True,
        tied=True,
    ),
    "gpt_bigcode": Traits(
        mlp_divided=False,
        qkv_bias=Bias.ALWAYS,
        output_bias=Bias.ALWAYS,
        mlp_bias=Bias.ALWAYS,
        gated=False,
        norm_bias=True,
        tied=True,
        positions=0,
        attention="attn",
    ),
    "gpt2": Traits(
        qkv_bias=Bias.ALWAYS,
        output_bias=Bias.ALWAYS,
        mlp_bias=Bias.ALWAYS,
        gated=False,
        norm_bias=True,
        tied=True,
        positions=0,
        attention="attn",
    ),
    "gpt_neox": _ALL_BIAS,
    "gptj": Traits(
        qkv_bias=Bias.NEVER,
        output_bias=Bias.NEVER,
        mlp_bias=Bias.ALWAYS,
        gated=False,
        norms=1,
        norm_bias=True,
        head_bias=True,
        attention="attn",
    ),
    "bloom": Traits(
        qkv_bias=Bias.ALWAYS,
        output_bias=Bias.ALWAYS,
        mlp_bias=Bias.ALWAYS,
        gated=False,
        norm_bias=True,
        tied=True,
        embedding_norm=True,
    ),
    "opt": Traits(
        bias_fields=("enable_bias",),
        output_bias_fields=("enable_bias",),
        mlp_bias_fields=("enable_bias",),
        bias_default=True,
        gated=False,
        norm_bias=True,
        tied=True,
        positions=2,
    ),
    "falcon": Traits(
        bias_fields=("bias",),
        output_bias_fields=("bias",),
        mlp_bias_fields=("bias",),
        gated=False,
        norm_bias=True,
        tied=True,
        attention="self_attention",
    ),
    "mpt": Traits(qkv_bias=Bias.NEVER, output_bias=Bias.NEVER, mlp_bias=Bias.NEVER, gated=False, tied=True),
    "chatglm": Traits(
        bias_fields=("add_qkv_bias", "add_bias_linear"),
        output_bias_fields=("add_bias_linear",),
        mlp_bias_fields=("add_bias_linear",),
        attention="self_attention",
    ),
    "glm": Traits(output_bias=Bias.NEVER, mlp_bias=Bias.NEVER),
    "glm4": _GLM4,
    "glm4_moe": _GLM4_MOE,
    "glm4v_moe_text": _GLM4_MOE,
    "glm4v_text": _GLM4,
    "nemotron": Traits(gated=False, norm_bias=True),
    "exaone": Traits(qkv_bias=Bias.NEVER, output_bias=Bias.NEVER, mlp_bias=Bias.NEVER, attention="attn.attention"),
    "exaone4": Traits(qkv_bias=Bias.NEVER, output_bias=Bias.NEVER, mlp_bias=Bias.NEVER, qk_norm=QkNorm.PER_HEAD),
    "hunyuan_v1_dense": Traits(mlp_bias=Bias.NEVER, qk_norm=QkNorm.PER_HEAD),
    "hunyuan_v1_moe": Traits(mlp_bias=Bias.NEVER, qk_norm=QkNorm.PER_HEAD),
    "ernie4_5": Traits(
        bias_fields=("use_bias",), output_bias_fields=("use_bias",), mlp_bias_fields=("use_bias",), tied=True
    ),
    "ernie4_5_moe": Traits(
        bias_fields=("use_bias",),
        output_bias_fields=("use_bias",),
        mlp_bias_fields=("use_bias",),
        tied=True,
        routing_bias=True,
    ),
    "deepseek": _DEEPSEEK_MOE,
    "dots1": Traits(mlp_bias=Bias.NEVER, output_bias=Bias.NEVER, qk_norm=QkNorm.PER_HEAD, routing_bias=True),
    "gpt_oss": Traits(mlp_bias=Bias.ALWAYS, router_bias=True, expert_bias=True, sinks=True, vocabulary_everywhere=True),
    "minimax_m2": Traits(
        qkv_bias=Bias.NEVER,
        output_bias=Bias.NEVER,
        mlp_bias=Bias.NEVER,
        qk_norm=QkNorm.FULL_DIVIDED,
        routing_bias=True,
        router_dtype="float32",
        moe="block_sparse_moe",
    ),
    "mimo": Traits(qkv_bias=Bias.ALWAYS, output_bias=Bias.NEVER, mlp_bias=Bias.NEVER),
}
