"""What a model is: the frozen facts that memory, planning and rendering read.

A `ModelFacts` is made once, by `models.parse.parse_model`, from `config.json` and whatever is known of the
checkpoint. Nothing downstream reads a raw config.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.models.caches import LayerCache, ModelCaches


class FactsBasis(StrEnum):
    """Where the weight bytes of a model come from, best first."""

    SAFETENSORS_HEADERS = "SafetensorsHeaders"
    GGUF_HEADER = "GgufHeader"
    CHECKPOINT_SIZE = "CheckpointSize"
    CONFIG = "Config"
    PARAMETER_COUNT = "ParameterCount"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFacts:
    """One tensor of a checkpoint as its header states it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """What is known of the weight files without reading a weight."""

    total_bytes: int | None = None
    tensors: tuple[TensorFacts, ...] = ()
    has_lm_head: bool | None = None
    basis: FactsBasis = FactsBasis.CHECKPOINT_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Identity of what was resolved: a plan pins it."""

    uri: str
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What the user or the planner asked of vLLM; None means vLLM's own default for that version and GPU.

    Field names are vLLM's flags with underscores. `flags` holds any further flag by long name.
    """

    version: str = "0.33.0"
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    enable_expert_parallel: bool = False
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    dtype: str = "auto"
    kv_cache_dtype: str = "auto"
    quantization: str | None = None
    block_size: int | None = None
    enforce_eager: bool = False
    speculative: Mapping[str, object] | None = None
    lora: Mapping[str, object] | None = None
    flags: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU (or slice) as a pod gets it; memory in bytes as CUDA sees it."""

    product: str | None
    memory_bytes: int
    compute_capability: str | None = None
    vendor: str = "nvidia"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a model is, for everything downstream. `config` is the raw config.json, kept for the weights' shapes."""

    architecture: str
    """vLLM's class for it, the first entry of `architectures`."""
    model_type: str
    dtype: str
    """Data type of the checkpoint: `bfloat16`, `float16` or `float32`."""
    hidden_size: int
    vocab_size: int
    num_layers: int
    num_attention_heads: int
    num_kv_heads: int
    head_dim: int
    max_model_len: int
    """Tokens that the model itself can attend to."""
    default_max_model_len: int | None = None
    """Tokens that vLLM takes when none are asked for, where that is less."""
    quantization: str | None = None
    """Method that the checkpoint was quantized with, by vLLM's name."""
    kv_cache_quantized: bool = False
    """Whether the checkpoint ships FP8 scales for the KV cache, which `auto` then follows."""
    num_experts: int = 0
    is_multimodal: bool = False
    needs_remote_code: bool = False
    generates: bool = True
    """False for embedding, classification and other encoder-only models."""
    is_encoder_decoder: bool = False
    kv_cache_dtype: str | None = None
    """Data type that the checkpoint asks for its KV cache, by vLLM's name; None: the model's own."""
    caches: ModelCaches = ()
    """What each layer keeps for a sequence, first layer first; nothing for layers that read another's cache."""
    draft_caches: tuple[LayerCache, ...] = ()
    """What the checkpoint's own draft layers keep, when speculative decoding uses them."""
    checkpoint: CheckpointFacts | None = None
    source: ModelSource | None = None
    parameters: int | None = None
    assumptions: tuple[str, ...] = ()
    """What could not be read and was assumed instead; empty when nothing was."""
    config: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    hf_quant_config: Mapping[str, Any] | None = field(default=None, hash=False, repr=False)
