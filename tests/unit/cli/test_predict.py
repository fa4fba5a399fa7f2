"""`vllm-operator predict` on files: one answer a line, whatever the line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.cli import main
from vllm_operator.cli.predict import answers

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 16,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


def _answers(tmp_path: Path, capsys: pytest.CaptureFixture[str], *lines: str) -> list[dict[str, Any]]:
    runs = tmp_path / "runs.jsonl"
    runs.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(["predict", str(runs)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_row_with_an_inline_config_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"id": "a", "config": CONFIG, "gpu": "NVIDIA L4", "max_model_len": 8192}
    (found,) = _answers(tmp_path, capsys, json.dumps(row))
    assert found["id"] == "a"
    assert found["starts"] is True
    low, high = found["kv_cache_gib_interval"]
    assert low < found["kv_cache_gib"] < high


def test_config_dir_is_relative_to_the_file_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configs" / "m").mkdir(parents=True)
    (tmp_path / "configs" / "m" / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (found,) = _answers(tmp_path, capsys, '{"id": 1, "config_dir": "configs/m", "gpu": "NVIDIA H100 80GB HBM3"}')
    assert found["starts"] is True


def test_a_bundled_model_needs_no_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = _answers(tmp_path, capsys, '{"id": 1, "model": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "NVIDIA L4"}')
    assert found["weights_gib"] == pytest.approx(14.99, abs=0.01)


@pytest.mark.parametrize(
    ("line", "row_id", "said"),
    [
        pytest.param("{", None, "JSON", id="not-json"),
        pytest.param("[1]", None, "object", id="not-an-object"),
        pytest.param('{"id": 7, "tp": 0}', 7, "tp", id="out-of-range"),
        pytest.param('{"id": 7, "gpu": "NVIDIA L4"}', 7, "config_dir or config", id="no-model"),
        pytest.param('{"id": 7, "config_dir": "absent", "gpu": "NVIDIA L4"}', 7, "absent", id="no-directory"),
        pytest.param('{"id": 7, "config": {}, "gpu": "NVIDIA L4"}', 7, "architectures", id="empty-config"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, row_id: object, said: str
) -> None:
    good = json.dumps({"id": "good", "config": CONFIG, "gpu": "NVIDIA L4", "max_model_len": 8192})
    bad, answered = _answers(tmp_path, capsys, line, good)
    assert bad["id"] == row_id
    assert said in bad["error"]
    assert bad["error"].startswith("line 1: ")
    assert answered["starts"] is True


_ODD = st.sampled_from([None, 0, -1, 1, 3, 8, 10**30, 0.5, 1e308, "", "x", "fp8", "0.11.0", True, [], {}, {"image": 0}])
_FIELDS = ["gpu", "gpu_memory_gib", "vllm_version", "tp", "pp", "dp", "ep", "gpu_memory_utilization", "max_model_len"]
_FIELDS += ["max_num_seqs", "max_num_batched_tokens", "kv_cache_dtype", "dtype", "quantization", "speculative", "lora"]
_FLAGS = ["block_size", "cpu_offload_gb", "kv_cache_memory_bytes", "num_gpu_blocks_override", "limit_mm_per_prompt"]


@given(fields=st.dictionaries(st.sampled_from(_FIELDS), _ODD), flags=st.dictionaries(st.sampled_from(_FLAGS), _ODD))
def test_a_row_of_any_shape_is_answered_or_named(fields: dict[str, Any], flags: dict[str, Any]) -> None:
    row = {"id": "odd", "config": CONFIG, "gpu": "NVIDIA L4", **fields, "flags": flags}
    (found,) = answers([json.dumps(row)], folder=Path())
    assert found["id"] == "odd"
    assert found.get("error") or isinstance(found["starts"], bool)


def test_a_file_that_cannot_be_read_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(tmp_path / "absent.jsonl")]) == 2
    assert "absent.jsonl cannot be read" in capsys.readouterr().err


def test_a_planner_sized_batch_is_answered_at_thousands_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        json.dumps({"id": n, "config": CONFIG, "gpu": "NVIDIA L4", "gpu_memory_utilization": 0.5 + n / 5000})
        for n in range(2000)
    ]
    begun = time.process_time()
    assert len(_answers(tmp_path, capsys, *lines)) == 2000
    assert time.process_time() - begun < 2000 / 1000


def test_a_character_that_only_python_takes_for_a_line_end_stays_in_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": "a\u2028b", "config": CONFIG, "gpu": "NVIDIA L4", "max_model_len": 8192}
    (found,) = _answers(tmp_path, capsys, json.dumps(row, ensure_ascii=False))
    assert found["id"] == "a\u2028b"
    assert found["starts"] is True


def test_a_row_nested_too_deep_is_an_error_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = '{"id": 1, "flags": ' + '{"a": ' * 5000 + "1" + "}" * 5001
    first, second = _answers(tmp_path, capsys, deep, json.dumps({"config": CONFIG, "gpu": "NVIDIA L4"}))
    assert "error" in first
    assert "error" not in second
