"""From a model's facts and the settings of a start to the tensor widths of one GPU.

Field names are those of public `config.json` files; a missing field narrows the estimate to what the others say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.bounded_memory import Recent
from vllm_operator.models.gpu_generation import AMPERE, capability_of
from vllm_operator.models.memory.encoders import EncoderLoad, encoder_load, encoder_widths
from vllm_operator.models.memory.terms import Batch, Widths
from vllm_operator.models.parse import language_config
from vllm_operator.models.weights.fields import integer, text

if TYPE_CHECKING:
    from vllm_operator.models.facts import Device, ModelFacts
    from vllm_operator.models.settings import ResolvedSettings
    from vllm_operator.models.weights.fields import Config

_ELEMENT_BYTES = {"float32": 4, "float": 4}
_TRITON_SINCE = (0, 8, 0)
"""V1 runs its own Triton kernel on cards that FlashAttention does not know."""
_OWN_SCRATCH = frozenset({"gpt_oss"})
"""Families whose expert kernels allocate no shared scratch (MXFP4 through Triton or Marlin)."""
_NOTHING_ENCODED = EncoderLoad(encoded=0, kept=0)


def widths_of(facts: ModelFacts, resolved: ResolvedSettings) -> Widths:
    """Widths of one rank: feed-forward, attention and experts divide by TP; hidden state and vocabulary do not."""
    config = language_config(facts.config)
    tensor = resolved.tensor_parallel_size
    experts = facts.num_experts or 0
    dense, expert = _intermediates(config, experts)
    latent = integer(config, "kv_lora_rank")
    hidden = facts.hidden_size
    heads = max(1, facts.num_attention_heads)
    return Widths(
        hidden=hidden,
        feed_forward=3 * dense // tensor,
        attention=2 * (heads + facts.num_kv_heads) * (facts.head_dim or hidden // heads) // tensor,
        vocabulary=facts.vocab_size,
        experts_per_token=integer(config, "num_experts_per_tok", "moe_top_k", "top_k_experts", "moe_topk", default=1),
        expert_intermediate=expert if resolved.enable_expert_parallel else expert // expert_ranks(facts, resolved),
        experts=-(-experts // (expert_ranks(facts, resolved) if resolved.enable_expert_parallel else 1)),
        mla_heads=heads // tensor if latent else 0,
        mla_head_width=integer(config, "qk_nope_head_dim") + integer(config, "v_head_dim") if latent else 0,
        layers=facts.num_layers,
        element_bytes=_element_bytes(resolved),
        encoder=encoder_widths(facts, resolved),
    )


def _element_bytes(resolved: ResolvedSettings) -> int:
    return _ELEMENT_BYTES.get(resolved.dtype, 2)


_RECENT: Recent[Widths] = Recent(capacity=2048)


def recent_widths(facts: ModelFacts, resolved: ResolvedSettings) -> Widths:
    """`widths_of`, remembered: a search over settings asks for the same ones again and again."""
    key = (
        resolved.tensor_parallel_size,
        (resolved.data_parallel_size, resolved.enable_expert_parallel) if facts.num_experts else None,
        _element_bytes(resolved),
        repr(resolved.flags) if facts.is_multimodal and resolved.flags else None,
    )
    return _RECENT.get(facts, key, lambda: widths_of(facts, resolved))


def batch_of(facts: ModelFacts, resolved: ResolvedSettings, device: Device) -> Batch:
    """The dummy batch of the profile run, on the pipeline stage that samples."""
    return Batch(
        tokens=resolved.max_num_batched_tokens,
        expert_tokens=resolved.max_num_batched_tokens * resolved.data_parallel_size,
        sequences=resolved.max_num_seqs,
        pipelined=resolved.pipeline_parallel_size > 1,
        encoder=encoder_load(facts, resolved) if facts.is_multimodal else _NOTHING_ENCODED,
        flash_attention=resolved.version.release >= _TRITON_SINCE or capability_of(device) >= AMPERE,
        samples=facts.generates and not pools(resolved),
    )


def mxfp4_expert_bytes(facts: ModelFacts, resolved: ResolvedSettings, *, layers: int) -> int:
    """MXFP4 experts of so many layers on one rank, 4.25 bits a weight; 0 for models without them."""
    if resolved.quantization != "mxfp4" or facts.model_type not in _OWN_SCRATCH:
        return 0
    expert = 3 * facts.hidden_size * integer(facts.config, "intermediate_size")
    bits = layers * facts.num_experts * expert * 17 // 4
    return bits // 8 // resolved.tensor_parallel_size


def pools(resolved: ResolvedSettings) -> bool:
    """Whether the model runs as an embedding or scoring model: no logits, no output head."""
    return resolved.flags.get("runner") == "pooling"


def expert_ranks(facts: ModelFacts, resolved: ResolvedSettings) -> int:
    """Ranks that talk to each other in every layer: of the TP group, and of all replicas where they share experts.

    Source: vllm/model_executor/layers/fused_moe/config.py `FusedMoEParallelConfig.make` (TP is flattened across DP).
    """
    replicas = resolved.data_parallel_size if facts.num_experts else 1
    return resolved.tensor_parallel_size * replicas


def _intermediates(config: Config, experts: int) -> tuple[int, int]:
    """Widest dense feed-forward of any layer, and that of one routed expert (0 without experts)."""
    plain = integer(config, "intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "d_ff")
    if not experts:
        return plain or 4 * integer(config, "hidden_size", "n_embd", "d_model"), 0
    expert = integer(config, "moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size")
    separate_dense = integer(config, "intermediate_size_mlp")
    shared = integer(config, "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size")
    shared = shared or integer(config, "n_shared_experts", "num_shared_experts") * expert
    if text(config, "model_type") in _OWN_SCRATCH:
        return 0, 0
    if not expert:
        return max(separate_dense, shared), plain
    has_dense_layers = bool(integer(config, "first_k_dense_replace") or config.get("mlp_only_layers"))
    return max(shared, separate_dense, plain if has_dense_layers else 0), expert
