"""GGUF files: metadata and tensors from the header, and the config.json that says the same.

Source: the GGUF specification, version 3 (github.com/ggml-org/ggml, docs/gguf.md) and ggml's block sizes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import Any

from vllm_operator.models.checkpoint import MAX_TENSORS, CheckpointError
from vllm_operator.models.facts import CheckpointFacts, FactsBasis, TensorFacts

MAGIC = b"GGUF"
_MAX_ENTRIES = 100_000
_MAX_STRING_BYTES = 16_000_000
_MAX_ARRAY = 4_000_000
_MAX_NESTING = 4

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

# ggml type: (name, weights in a block, bytes of a block); ggml/src/ggml-common.h.
_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}


class TruncatedHeader(CheckpointError):
    """The bytes end before the header does; more of the file is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """The readable part of a GGUF file. Long arrays (the tokenizer) are kept as their length."""

    metadata: dict[str, Any]
    tensors: tuple[TensorFacts, ...]


@dataclass(frozen=True, slots=True)
class ArrayLength:
    """A metadata array of which only the length matters."""

    length: int


def read_gguf_header(data: bytes) -> GgufHeader:
    """Parses the start of a GGUF file. Raises `TruncatedHeader` when `data` is too short to hold it all."""
    reader = _Reader(data)
    if reader.take(4) != MAGIC:
        raise CheckpointError("not a GGUF file: the magic bytes are missing")
    version = reader.number("I")
    if version not in (2, 3):
        raise CheckpointError(f"GGUF version {version} is not known; 2 and 3 are")
    tensor_count, entry_count = reader.number("Q"), reader.number("Q")
    if entry_count > _MAX_ENTRIES or tensor_count > MAX_TENSORS:
        raise CheckpointError(f"the GGUF header claims {entry_count} entries and {tensor_count} tensors")
    metadata: dict[str, Any] = {}
    for _ in range(entry_count):
        name = reader.string()
        metadata[name] = reader.value(reader.number("I"))
    return GgufHeader(metadata=metadata, tensors=tuple(_tensor(reader) for _ in range(tensor_count)))


def _tensor(reader: _Reader) -> TensorFacts:
    name = reader.string()
    dimensions = reader.number("I")
    if dimensions > 8:
        raise CheckpointError(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(reader.number("Q") for _ in range(dimensions))
    kind, _offset = reader.number("I"), reader.number("Q")
    if kind not in _TYPES:
        raise CheckpointError(f"tensor {name!r} has the unknown ggml type {kind}")
    label, block, block_bytes = _TYPES[kind]
    stored = -(-prod(shape) // block) * block_bytes
    # ggml states the fastest dimension first, safetensors the slowest.
    return TensorFacts(name=name, dtype=label, shape=shape[::-1], stored_bytes=stored)


class _Reader:
    """A cursor over the header's bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._data):
            raise TruncatedHeader(f"the GGUF header is longer than the {len(self._data)} bytes that were read")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self, code: str) -> int:
        value: int = struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]
        return value

    def string(self) -> str:
        length = self.number("Q")
        if length > _MAX_STRING_BYTES:
            raise CheckpointError(f"the GGUF header has a string of {length} bytes")
        return self.take(length).decode("utf-8", errors="replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALARS:
            code = "<" + _SCALARS[kind]
            return struct.unpack(code, self.take(struct.calcsize(code)))[0]
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY and depth < _MAX_NESTING:
            return self._array(depth)
        raise CheckpointError(f"the GGUF header has a value of the unknown type {kind}")

    def _array(self, depth: int) -> Any:
        kind, length = self.number("I"), self.number("Q")
        if length > _MAX_ARRAY:
            raise CheckpointError(f"the GGUF header has an array of {length} items")
        if kind in _SCALARS and length <= 1024:
            return [self.value(kind) for _ in range(length)]
        if kind in _SCALARS:
            self.take(length * struct.calcsize("<" + _SCALARS[kind]))
        else:
            for _ in range(length):
                self.value(kind, depth + 1)
        return ArrayLength(length)


# GGUF architecture -> (model_type, class that vLLM serves it with).
_FAMILIES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen2moe": ("qwen2_moe", "Qwen2MoeForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "qwen3moe": ("qwen3_moe", "Qwen3MoeForCausalLM"),
    "gemma": ("gemma", "GemmaForCausalLM"),
    "gemma2": ("gemma2", "Gemma2ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
    "phi3": ("phi3", "Phi3ForCausalLM"),
    "starcoder2": ("starcoder2", "Starcoder2ForCausalLM"),
    "stablelm": ("stablelm", "StableLmForCausalLM"),
    "command-r": ("cohere", "CohereForCausalLM"),
}


def gguf_config(header: GgufHeader) -> dict[str, Any]:
    """The config.json that a GGUF file's metadata amounts to; only what the metadata states."""
    metadata = header.metadata
    family = metadata.get("general.architecture")
    if not isinstance(family, str):
        raise CheckpointError("the GGUF metadata does not name an architecture (general.architecture)")
    model_type, architecture = _FAMILIES.get(family, (family, family))
    names = {
        "num_hidden_layers": "block_count",
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length",
        "max_position_embeddings": "context_length",
        "sliding_window": "attention.sliding_window",
        "vocab_size": "vocab_size",
        "num_experts": "expert_count",
        "num_experts_per_tok": "expert_used_count",
        "moe_intermediate_size": "expert_feed_forward_length",
    }
    config: dict[str, Any] = {"model_type": model_type, "architectures": [architecture], "torch_dtype": "bfloat16"}
    for target, source in names.items():
        value = metadata.get(f"{family}.{source}")
        if isinstance(value, int):
            config[target] = value
    tokens = metadata.get("tokenizer.ggml.tokens")
    if "vocab_size" not in config and isinstance(tokens, ArrayLength):
        config["vocab_size"] = tokens.length
    elif "vocab_size" not in config and isinstance(tokens, list):
        config["vocab_size"] = len(tokens)
    config["tie_word_embeddings"] = not any(tensor.name == "output.weight" for tensor in header.tensors)
    config["quantization_config"] = {"quant_method": "gguf"}
    return config


def gguf_checkpoint(header: GgufHeader, *, total_bytes: int | None = None) -> CheckpointFacts:
    """The facts of a GGUF checkpoint."""
    return CheckpointFacts(
        total_bytes=total_bytes if total_bytes is not None else sum(tensor.stored_bytes for tensor in header.tensors),
        tensors=header.tensors,
        has_lm_head=any(tensor.name == "output.weight" for tensor in header.tensors),
        basis=FactsBasis.GGUF_HEADER,
    )
