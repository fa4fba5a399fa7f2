"""How vLLM runs the model: `spec.engine`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from vllm_operator.api.base import ModelUri, SpecModel, Text
from vllm_operator.api.references import SecretKeyRef

EngineName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class LoraAdapter(SpecModel):
    """One LoRA adapter that is served beside the base model."""

    name: EngineName
    """Name under which the API serves the adapter."""
    uri: ModelUri
    """Where the adapter comes from, as for the model."""


class LoraSpec(SpecModel):
    """LoRA adapters and the memory reserved for them."""

    max_loras: Annotated[int, Field(ge=1, le=256)] | None = None
    """Adapters that may be active in one batch."""
    max_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] | None = None
    """Largest rank; vLLM accepts only these values."""
    adapters: Annotated[tuple[LoraAdapter, ...], Field(max_length=64)] = ()
    """Adapters to load at start."""


class SpeculativeSpec(SpecModel):
    """Speculative decoding."""

    method: EngineName
    """vLLM's method, such as `eagle3`, `ngram` or `mtp`."""
    model_uri: ModelUri | None = None
    """Draft model, where the method needs one."""
    tokens: Annotated[int, Field(ge=1, le=64)]
    """Tokens that are guessed at a time."""


class EnvVar(SpecModel):
    """An environment variable of the engine's container."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")]
    """Name of the variable."""
    value: Text | None = None
    """Value, in which `$(NAME)` stands for another variable as in a pod; secrets belong into `secretKeyRef`."""
    secret_key_ref: SecretKeyRef | None = None
    """Takes the value from a Secret."""


Parallelism = Annotated[int, Field(ge=1, le=1024)]


class EngineSpec(SpecModel):
    """How vLLM runs the model, where the planner should not decide."""

    version: (
        Annotated[str, StringConstraints(max_length=32, pattern=r"^v?[0-9]+\.[0-9]+(\.[0-9]+)?([.+-][A-Za-z0-9.]+)?$")]
        | None
    ) = None
    """vLLM version: keys the memory model and the flag set. Unset: the operator's."""
    image: (
        Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
        | None
    ) = None
    """Engine image. Unset: vLLM's own image of that version."""
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] = "auto"
    """Data type of weights and activations."""
    quantization: EngineName | None = None
    """vLLM quantization method. Unset: as the checkpoint says."""
    kv_cache_dtype: EngineName = "auto"
    """Data type of the KV cache."""
    tensor_parallel_size: Parallelism | None = None
    """GPUs that share each layer, within one node."""
    pipeline_parallel_size: Parallelism | None = None
    """Groups of layers that run one after the other."""
    data_parallel_size: Parallelism | None = None
    """Copies of the model in one replica."""
    expert_parallel: bool | None = None
    """Whether experts are spread over GPUs whole instead of being split."""
    max_num_seqs: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Sequences in one batch."""
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=16_777_216)] | None = None
    """Tokens in one batch."""
    enforce_eager: bool = False
    """Whether CUDA graphs and compilation are off."""
    lora: LoraSpec | None = None
    """LoRA adapters."""
    speculative: SpeculativeSpec | None = None
    """Speculative decoding."""
    tool_calling: EngineName = "Auto"
    """Tool-call parser: `Auto` takes the one that vLLM has for this model family, `Off` none, else a parser's name."""
    reasoning: EngineName = "Auto"
    """Reasoning parser: `Auto`, `Off` or a parser's name."""
    extra_args: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=4096)], ...], Field(max_length=128)
    ] = ()
    """Further `vllm serve` arguments, one token each, taken literally. A flag that the operator manages is refused."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=128)] = ()
    """Environment variables of the engine."""
