"""Headers of weight files."""

from __future__ import annotations

import json
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.hub.server import gguf_file, safetensors_file

from vllm_operator.models.checkpoint import (
    LENGTH_PREFIX_BYTES,
    CheckpointError,
    checkpoint_of,
    checkpoint_of_index,
    header_length,
    index_files,
    safetensors_tensors,
    ships_output_head,
)
from vllm_operator.models.facts import FactsBasis
from vllm_operator.models.gguf import TruncatedHeader, gguf_checkpoint, gguf_config, read_gguf_header


def header_of(content: bytes) -> bytes:
    return content[LENGTH_PREFIX_BYTES : LENGTH_PREFIX_BYTES + header_length(content[:LENGTH_PREFIX_BYTES])]


def test_a_header_gives_every_tensor_with_its_bytes() -> None:
    content = safetensors_file({"a.weight": ("BF16", [4, 8]), "b.weight_scale": ("F32", [4])})
    tensors = safetensors_tensors(header_of(content))
    assert [(part.name, part.dtype, part.shape, part.stored_bytes) for part in tensors] == [
        ("a.weight", "BF16", (4, 8), 64),
        ("b.weight_scale", "F32", (4,), 16),
    ]


def test_a_whole_checkpoint_knows_its_total_and_its_head() -> None:
    tensors = safetensors_tensors(header_of(safetensors_file({"lm_head.weight": ("BF16", [4, 8])})))
    checkpoint = checkpoint_of(tensors)
    assert (checkpoint.total_bytes, checkpoint.has_lm_head, checkpoint.basis) == (
        64,
        True,
        FactsBasis.SAFETENSORS_HEADERS,
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["lm_head.weight"], True),
        (["language_model.lm_head.weight"], True),
        (["lm_head.qweight"], True),
        (["output.weight"], True),
        (["model.embed_tokens.weight"], False),
        (["model.layers.0.self_attn.output.weight"], True),
    ],
)
def test_output_heads_are_found_by_name(names: list[str], expected: bool) -> None:
    assert ships_output_head(names) is expected


@pytest.mark.parametrize(
    "prefix", [b"", b"1234567", struct.pack("<Q", 0), struct.pack("<Q", 10**12)], ids=["none", "short", "zero", "huge"]
)
def test_impossible_lengths_are_refused(prefix: bytes) -> None:
    with pytest.raises(CheckpointError, match="safetensors"):
        header_length(prefix)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"not json", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"a": 1}', "described by an object"),
        (b'{"a": {"shape": [1]}}', "no dtype or shape"),
        (b'{"a": {"dtype": "F32", "shape": [-1]}}', "list of sizes"),
        (b'{"a": {"dtype": "Q9", "shape": [1]}}', "unknown dtype"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_damaged_headers_say_what_is_wrong(header: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        safetensors_tensors(header)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_safetensors_reader(content: bytes) -> None:
    with suppress(CheckpointError):
        safetensors_tensors(content)


def test_an_index_gives_the_total_and_the_head_but_no_tensors() -> None:
    index = {"metadata": {"total_size": 123}, "weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    checkpoint = checkpoint_of_index(index)
    assert (checkpoint.total_bytes, checkpoint.has_lm_head, checkpoint.tensors) == (123, True, ())


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b.safetensors", ".hidden", "a\\b"])
def test_an_index_may_not_lead_out_of_its_directory(name: str) -> None:
    with pytest.raises(CheckpointError, match="outside"):
        index_files({"weight_map": {"a": name}})


GGUF_METADATA: dict[str, int | str] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 128,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.context_length": 2048,
}


def test_a_gguf_header_reads_as_a_config() -> None:
    content = gguf_file(
        GGUF_METADATA, {"token_embd.weight": (1, [64, 100]), "blk.0.attn_q.weight": (12, [256, 64])}, tokens=100
    )
    header = read_gguf_header(content)
    assert gguf_config(header) == {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "torch_dtype": "bfloat16",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "vocab_size": 100,
        "tie_word_embeddings": True,
        "quantization_config": {"quant_method": "gguf"},
    }
    checkpoint = gguf_checkpoint(header)
    # 64 × 100 in F16, and 256 × 64 in Q4_K: 144 bytes for 256 weights.
    assert checkpoint.total_bytes == 64 * 100 * 2 + 64 * 144
    assert checkpoint.basis is FactsBasis.GGUF_HEADER


def test_a_gguf_header_cut_short_asks_for_more() -> None:
    content = gguf_file(GGUF_METADATA, {"token_embd.weight": (1, [64, 100])}, tokens=50)
    for length in (3, 20, len(content) // 2, len(content) - 1):
        with pytest.raises(TruncatedHeader):
            read_gguf_header(content[:length])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GGML" + bytes(40), "magic"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 10**9, 0), "claims"),
        (gguf_file({}, {"w": (99, [1])}), "unknown ggml type"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 10**10), "string"),
    ],
)
def test_damaged_gguf_headers_say_what_is_wrong(content: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_gguf_header(content)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_gguf_reader(tail: bytes) -> None:
    with suppress(CheckpointError):
        read_gguf_header(b"GGUF" + struct.pack("<I", 3) + tail)


def test_headers_are_json_as_the_format_says() -> None:
    content = safetensors_file({"a": ("F32", [1])})
    assert json.loads(header_of(content))["a"]["dtype"] == "F32"
