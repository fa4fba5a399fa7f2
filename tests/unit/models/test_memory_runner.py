"""Which model runner a start takes, and what that changes of the memory it counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from vllm_operator.models.facts import Device, EngineSettings
from vllm_operator.models.memory import predict_memory
from vllm_operator.models.memory.runner import runs_new_runner
from vllm_operator.models.parse import parse_model
from vllm_operator.models.settings import resolve_settings

if TYPE_CHECKING:
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.models.memory import MemoryPrediction

GIB = 1024**3
L40S = Device(product="NVIDIA L40S", memory_bytes=int(44.39 * GIB))
QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 5120,
    "intermediate_size": 17408,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_hidden_layers": 40,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
}
QWEN2 = {**QWEN3, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
LLAMA = {**QWEN3, "architectures": ["LlamaForCausalLM"], "model_type": "llama"}
MIXTRAL = {
    **QWEN3,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
AWQ = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}


def _facts(config: dict[str, Any]) -> ModelFacts:
    return parse_model(config)


def _predict(config: dict[str, Any], settings: EngineSettings) -> MemoryPrediction:
    facts = _facts(config)
    return predict_memory(facts, resolve_settings(facts, settings, L40S), L40S)


@pytest.mark.parametrize(
    ("version", "config", "expected"),
    [
        ("0.21.0", QWEN3, False),
        ("0.22.1", QWEN3, True),
        ("0.22.1", LLAMA, False),
        ("0.23.0", LLAMA, True),
        ("0.23.0", QWEN2, False),
        ("0.23.0", {**QWEN3, **AWQ}, False),
        ("0.27.1", QWEN2, True),
        ("0.28.0", {**QWEN3, **AWQ}, True),
        ("0.29.0", MIXTRAL, False),
        ("0.30.0", MIXTRAL, True),
    ],
)
def test_the_runner_is_chosen_by_version_and_architecture(version: str, config: dict[str, Any], expected: bool) -> None:
    facts = _facts(config)
    resolved = resolve_settings(facts, EngineSettings(version=version), L40S)
    assert runs_new_runner(facts, resolved) is expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"VLLM_USE_V2_MODEL_RUNNER": "0"}, False),
        ({"VLLM_USE_V2_MODEL_RUNNER": 1}, True),
        ({"runner": "pooling"}, False),
    ],
)
def test_the_environment_decides_and_pooling_models_keep_the_old_one(flags: dict[str, Any], expected: bool) -> None:
    facts = _facts(QWEN3)
    resolved = resolve_settings(facts, EngineSettings(version="0.27.1", flags=flags), L40S)
    assert runs_new_runner(facts, resolved) is expected


def test_the_new_runner_estimates_no_graphs_before_0_28() -> None:
    assert _predict(QWEN3, EngineSettings(version="0.27.1")).graphs_charged_bytes == 0
    assert _predict(QWEN3, EngineSettings(version="0.28.0")).graphs_charged_bytes > GIB
    assert _predict(MIXTRAL, EngineSettings(version="0.27.1", max_num_seqs=8)).graphs_charged_bytes > 0


def test_the_estimate_can_be_turned_off() -> None:
    settings = EngineSettings(version="0.29.0", flags={"VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": "0"})
    assert _predict(QWEN3, settings).graphs_charged_bytes == 0


@pytest.mark.parametrize(("version", "kv_gib"), [("0.28.0", 11.57), ("0.29.0", 11.06)])
def test_qwen3_14b_leaves_what_the_log_printed(version: str, kv_gib: float) -> None:
    settings = EngineSettings(version=version, gpu_memory_utilization=0.92, max_model_len=8192)
    assert _predict(QWEN3, settings).kv_cache_bytes / GIB == pytest.approx(kv_gib, abs=0.5)


def test_the_new_sampler_needs_less_than_the_old_one() -> None:
    settings = EngineSettings(version="0.27.1", max_num_seqs=512)
    old = replace(settings, flags={"VLLM_USE_V2_MODEL_RUNNER": "0"})
    assert _predict(QWEN3, settings).activation_bytes < _predict(QWEN3, old).activation_bytes
