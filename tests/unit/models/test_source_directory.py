"""Facts from a directory on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.hub.server import gguf_file, safetensors_file

from vllm_operator.models.errors import ModelNotFound, ModelUnreadable
from vllm_operator.models.facts import FactsBasis
from vllm_operator.models.source import load_directory

if TYPE_CHECKING:
    from pathlib import Path

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 640,
    "max_position_embeddings": 1024,
}


def directory_with(path: Path, **files: bytes) -> Path:
    (path / "config.json").write_text(json.dumps(CONFIG))
    for name, content in files.items():
        (path / name.replace("__", ".")).write_bytes(content)
    return path


def test_a_bare_config_is_enough(tmp_path: Path) -> None:
    facts = load_directory(directory_with(tmp_path))
    assert facts.num_layers == 2
    assert facts.checkpoint is None
    assert facts.source is not None
    assert facts.source.uri == str(tmp_path)


def test_headers_are_read_and_the_weights_are_not(tmp_path: Path) -> None:
    weights = safetensors_file({"lm_head.weight": ("BF16", [640, 64])})
    header = len(weights) - 640 * 64 * 2
    facts = load_directory(directory_with(tmp_path, model__safetensors=weights[:header]))
    assert facts.checkpoint is not None
    assert (facts.checkpoint.total_bytes, facts.checkpoint.has_lm_head) == (640 * 64 * 2, True)
    assert facts.checkpoint.basis is FactsBasis.SAFETENSORS_HEADERS


def test_mistrals_second_copy_is_not_counted(tmp_path: Path) -> None:
    one = safetensors_file({"a.weight": ("BF16", [4])})
    facts = load_directory(directory_with(tmp_path, model__safetensors=one, consolidated__safetensors=one))
    assert facts.checkpoint is not None
    assert len(facts.checkpoint.tensors) == 1


def test_an_index_without_its_files_still_gives_the_total(tmp_path: Path) -> None:
    index = {"metadata": {"total_size": 5}, "weight_map": {"a.weight": "model-00001-of-00001.safetensors"}}
    facts = load_directory(directory_with(tmp_path, model__safetensors__index__json=json.dumps(index).encode()))
    assert facts.checkpoint is not None
    assert (facts.checkpoint.total_bytes, facts.checkpoint.has_lm_head) == (5, False)


def test_a_marker_says_that_the_checkpoint_has_a_head(tmp_path: Path) -> None:
    facts = load_directory(directory_with(tmp_path, HAS_LM_HEAD=b""))
    assert facts.checkpoint is not None
    assert facts.checkpoint.has_lm_head is True


def test_sentence_transformers_modules_make_an_embedding_model(tmp_path: Path) -> None:
    assert load_directory(directory_with(tmp_path)).generates
    assert not load_directory(directory_with(tmp_path, modules__json=b"[]")).generates


def test_a_gguf_file_alone_is_a_model(tmp_path: Path) -> None:
    metadata: dict[str, int | str] = {
        "general.architecture": "qwen2",
        "qwen2.block_count": 2,
        "qwen2.embedding_length": 64,
        "qwen2.feed_forward_length": 128,
        "qwen2.attention.head_count": 4,
        "qwen2.attention.head_count_kv": 2,
        "qwen2.context_length": 2048,
    }
    (tmp_path / "model.gguf").write_bytes(gguf_file(metadata, {"output.weight": (8, [64, 96])}, tokens=96))
    facts = load_directory(tmp_path)
    assert (facts.architecture, facts.vocab_size) == ("Qwen2ForCausalLM", 96)
    assert facts.checkpoint is not None
    assert facts.checkpoint.has_lm_head is True


def test_a_directory_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such directory"):
        load_directory(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "not valid JSON"),
        ("config.json", b'"text"', "not an object"),
        ("config.json", b"[" * 200_000, "not valid JSON"),
        ("config.json", b'{"architectures": ["LlamaForCausalLM"]}', "cannot be planned"),
        ("config.json", b" " * 10_000_001, "too large"),
        ("config.json", b"\xff\xfe\x00", "not valid JSON"),
        ("model.safetensors", b"", "8 bytes of length"),
        ("model.safetensors", b"\x40\0\0\0\0\0\0\0{}", "ends inside its header"),
        ("hf_quant_config.json", b"nonsense", "not valid JSON"),
    ],
)
def test_damaged_files_are_named_with_what_is_wrong(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    directory_with(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelUnreadable, match=message) as raised:
        load_directory(tmp_path)
    assert str(tmp_path) in str(raised.value)


def test_an_empty_directory_names_the_file_to_copy(tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable, match=r"copy the model's config\.json"):
        load_directory(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    directory_with(tmp_path)
    (tmp_path / "hf_quant_config.json").symlink_to(tmp_path / "loop")
    (tmp_path / "loop.safetensors").mkdir()
    assert load_directory(tmp_path).num_layers == 2
