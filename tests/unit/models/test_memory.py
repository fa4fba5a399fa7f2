"""A whole prediction: what is left for the KV cache, how sure that is, and whether the start survives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.models.facts import Device, EngineSettings
from vllm_operator.models.memory import StartFailure, predict_memory
from vllm_operator.models.parse import parse_model
from vllm_operator.models.settings import resolve_settings

if TYPE_CHECKING:
    from vllm_operator.models.memory import MemoryPrediction

GIB = 1024**3
MEASURED = Path(__file__).parents[2] / "data" / "measured"
LLAMA_8B_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
LLAMA_8B = parse_model(LLAMA_8B_CONFIG)
H100 = Device(product="NVIDIA H100 80GB HBM3", memory_bytes=int(79.19 * GIB))
L4 = Device(product="NVIDIA L4", memory_bytes=int(22.03 * GIB))
SERVED = EngineSettings(version="0.19.0", gpu_memory_utilization=0.95, max_model_len=8192)


def _predict(settings: EngineSettings, device: Device = H100) -> MemoryPrediction:
    return predict_memory(LLAMA_8B, resolve_settings(LLAMA_8B, settings, device), device)


def test_llama_8b_leaves_what_vllm_0_19_printed() -> None:
    prediction = _predict(SERVED)
    assert prediction.weights_bytes / GIB == pytest.approx(14.99, abs=0.01)
    assert prediction.activation_bytes / GIB == pytest.approx(1.89, abs=0.01)
    assert prediction.kv_cache_bytes / GIB == pytest.approx(58.11, abs=0.05)
    assert prediction.capacity is not None
    assert prediction.capacity.max_concurrency == pytest.approx(58.11, rel=0.002)
    assert prediction.starts


def test_budget_is_the_sum_of_its_parts() -> None:
    prediction = _predict(replace(SERVED, version="0.33.0", lora={"max_loras": 4, "max_lora_rank": 32}))
    parts = (
        prediction.weights_bytes
        + prediction.activation_bytes
        + prediction.non_torch_bytes
        + prediction.graphs_charged_bytes
        + prediction.lora_bytes
        + prediction.kv_cache_bytes
    )
    assert parts == prediction.requested_bytes
    assert prediction.lora_bytes > 0.6 * GIB


def test_graphs_are_charged_since_0_21_only() -> None:
    assert _predict(SERVED).graphs_charged_bytes == 0
    assert _predict(replace(SERVED, version="0.21.0")).graphs_charged_bytes > 0
    assert _predict(replace(SERVED, version="0.21.0", enforce_eager=True)).graphs_charged_bytes == 0


def test_cache_too_small_for_one_sequence_names_the_longest_that_fits() -> None:
    prediction = _predict(replace(SERVED, version="0.33.0", gpu_memory_utilization=None, max_model_len=131072), L4)
    assert prediction.failure is StartFailure.KV
    assert prediction.capacity is not None
    longest = prediction.capacity.estimated_max_model_len
    assert 0 < longest < 131072
    assert f"lower max_model_len to {longest}" in prediction.notes[0]
    shorter = replace(SERVED, version="0.33.0", gpu_memory_utilization=None, max_model_len=longest)
    assert _predict(shorter, L4).starts


def test_nothing_left_for_the_cache_is_a_kv_failure_with_the_sum() -> None:
    prediction = _predict(replace(SERVED, gpu_memory_utilization=0.2))
    assert prediction.failure is StartFailure.KV
    assert prediction.kv_cache_bytes == 0
    assert prediction.capacity is None
    assert "15.84 GiB" in prediction.notes[0]


def test_weights_larger_than_the_card_fail_to_load() -> None:
    small = Device(product="NVIDIA T4", memory_bytes=int(14.56 * GIB))
    prediction = _predict(replace(SERVED, dtype="float16"), small)
    assert prediction.failure is StartFailure.LOAD
    assert "tensor or pipeline parallel size" in prediction.notes[0]


def test_asking_for_all_of_the_card_fails_the_free_memory_check() -> None:
    prediction = _predict(replace(SERVED, gpu_memory_utilization=1.0))
    assert prediction.failure is StartFailure.MEMORY_CHECK
    assert "0.99 or less" in prediction.notes[0]


def test_graphs_beyond_the_budget_run_out_after_the_cache_is_sized() -> None:
    tight = Device(product="NVIDIA RTX 3090", memory_bytes=int(23.58 * GIB))
    prediction = _predict(replace(SERVED, version="0.11.0", gpu_memory_utilization=0.97, max_model_len=2048), tight)
    assert prediction.failure is StartFailure.POST_KV
    assert "enforce_eager" in prediction.notes[0]
    eager = replace(SERVED, version="0.11.0", gpu_memory_utilization=0.97, max_model_len=2048, enforce_eager=True)
    assert _predict(eager, tight).starts


def test_parallelism_that_vllm_refuses_is_invalid() -> None:
    prediction = _predict(replace(SERVED, tensor_parallel_size=3))
    assert prediction.failure is StartFailure.INVALID


def test_a_stated_cache_size_is_taken_as_it_is() -> None:
    prediction = _predict(replace(SERVED, flags={"kv_cache_memory_bytes": 6 * GIB}))
    assert prediction.kv_cache_bytes == 6 * GIB
    assert prediction.kv_cache_bytes_interval == (6 * GIB, 6 * GIB)


def test_offloaded_layers_leave_embedding_and_head() -> None:
    prediction = _predict(replace(SERVED, flags={"cpu_offload_gb": 100}))
    assert prediction.weights_bytes == 2 * 128256 * 4096 * 2


def test_more_sequences_than_state_blocks_fail_after_the_cache_is_sized() -> None:
    configs = json.loads((MEASURED / "configs.json").read_text(encoding="utf-8"))
    hybrid = parse_model(configs["Qwen__Qwen3-Next-80B-A3B-Instruct"])
    device = Device(product="NVIDIA H100 80GB HBM3", memory_bytes=48 * GIB)
    settings = EngineSettings(
        version="0.33.0", tensor_parallel_size=4, max_model_len=4096, max_num_seqs=1024, max_num_batched_tokens=2048
    )
    prediction = predict_memory(hybrid, resolve_settings(hybrid, settings, device), device)
    assert prediction.failure is StartFailure.POST_KV
    assert prediction.capacity is not None
    blocks = prediction.capacity.num_blocks
    assert f"set max_num_seqs to {blocks} or less" in prediction.notes[0]
    fewer = replace(settings, max_num_seqs=blocks)
    assert predict_memory(hybrid, resolve_settings(hybrid, fewer, device), device).starts


def test_replicas_that_share_experts_pay_for_all_their_tokens() -> None:
    config = {
        **LLAMA_8B_CONFIG,
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "vocab_size": 32000,
    }
    mixtral = parse_model(config)

    def activation(**change: Any) -> int:
        settings = replace(SERVED, tensor_parallel_size=2, **change)
        return predict_memory(mixtral, resolve_settings(mixtral, settings, H100), H100).activation_bytes

    alone, shared = activation(), activation(data_parallel_size=2, enable_expert_parallel=True)
    assert shared - alone == pytest.approx(8192 * 2 * 2 * (2 * (28672 + 14336) - (14336 + 7168)), rel=0.01)


@pytest.mark.parametrize(
    ("version", "environment", "factor"),
    [
        pytest.param("0.10.2", {"VLLM_USE_FLASHINFER_SAMPLER": "1"}, 0.39, id="fused-sampler-asked-for"),
        pytest.param("0.10.2", {"VLLM_USE_FLASHINFER_SAMPLER": "0"}, 1.0, id="fused-sampler-refused"),
        pytest.param("0.19.0", {"VLLM_USE_FLASHINFER_SAMPLER": "1"}, 1.0, id="fused-anyway"),
    ],
)
def test_the_environment_chooses_the_sampler(version: str, environment: dict[str, str], factor: float) -> None:
    asked = replace(SERVED, version=version)
    plain, chosen = _predict(asked), _predict(replace(asked, flags=environment))
    assert chosen.activation_bytes == pytest.approx(factor * plain.activation_bytes, rel=0.03)
    low, high = chosen.kv_cache_bytes_interval
    assert high - chosen.kv_cache_bytes == pytest.approx(chosen.kv_cache_bytes - low, abs=2)


@pytest.mark.parametrize(
    ("version", "switch", "charged"),
    [("0.19.0", "1", True), ("0.19.0", "0", False), ("0.22.0", "0", False), ("0.16.0", "1", False)],
)
def test_the_environment_charges_graphs(version: str, switch: str, charged: bool) -> None:
    flags = {"VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": switch}
    assert (_predict(replace(SERVED, version=version, flags=flags)).graphs_charged_bytes > 0) is charged


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"version": "nightly"}, id="unknown-version"),
        pytest.param({"version": "0.60.0"}, id="version-beyond-the-known"),
        pytest.param({"version": "0.31.0"}, id="version-with-one-log"),
        pytest.param({"version": "0.11.0"}, id="optional-sampler"),
    ],
)
def test_interval_is_wider_where_less_is_known(change: dict[str, Any]) -> None:
    def width(prediction: MemoryPrediction) -> int:
        low, high = prediction.kv_cache_bytes_interval
        return high - low

    assert width(_predict(replace(SERVED, **change))) > 1.5 * width(_predict(SERVED))


@given(
    utilization=st.floats(0.3, 0.97),
    tensor=st.sampled_from([1, 2, 4, 8]),
    version=st.sampled_from(["0.6.6", "0.8.5", "0.11.0", "0.15.0", "0.17.0", "0.19.0", "0.25.0", "0.27.0", "0.33.0"]),
    gib=st.floats(8, 190),
)
def test_more_memory_never_leaves_less_cache(utilization: float, tensor: int, version: str, gib: float) -> None:
    settings = EngineSettings(
        version=version,
        gpu_memory_utilization=utilization,
        tensor_parallel_size=tensor,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        max_model_len=4096,
    )
    smaller = _predict(settings, Device(product=None, memory_bytes=int(gib * GIB)))
    larger = _predict(settings, Device(product=None, memory_bytes=int((gib + 4) * GIB)))
    assert larger.kv_cache_bytes >= smaller.kv_cache_bytes
    low, high = larger.kv_cache_bytes_interval
    assert low <= larger.kv_cache_bytes <= high or larger.kv_cache_bytes == 0


def test_a_model_type_that_is_no_text_is_no_reason_to_fail() -> None:
    configs = json.loads((MEASURED / "configs.json").read_text(encoding="utf-8"))
    odd = parse_model({**configs["mistralai__Mixtral-8x7B-Instruct-v0.1"], "model_type": ["mixtral"]})
    prediction = predict_memory(odd, resolve_settings(odd, replace(SERVED, tensor_parallel_size=2), H100), H100)
    assert prediction.activation_bytes > 0
