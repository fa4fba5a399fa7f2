from __future__ import annotations

from typing import Any

import pytest
from tests.unit.models.kv_oracle import oracle_facts

from vllm_operator.models.facts import Device, EngineSettings
from vllm_operator.models.validity import kernel_problems, parallelism_problems

GIB = 2**30
H100 = Device(product="NVIDIA H100 80GB HBM3", memory_bytes=80 * GIB)
A100 = Device(product="NVIDIA A100-SXM4-80GB", memory_bytes=80 * GIB)
L4 = Device(product="NVIDIA L4", memory_bytes=22 * GIB)
B200 = Device(product="NVIDIA B200", memory_bytes=178 * GIB)
LLAMA, QWEN_MOE = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-235B-A22B"


@pytest.mark.parametrize(
    ("model", "asked", "words"),
    [
        pytest.param(LLAMA, {"tensor_parallel_size": 3}, "32 attention heads", id="heads"),
        pytest.param("microsoft/phi-4", {"tensor_parallel_size": 4}, "10 key/value heads", id="key/value heads"),
        pytest.param("zai-org/GLM-4.5V-default", {"tensor_parallel_size": 8}, "vision tower", id="tower"),
        pytest.param("Qwen/Qwen3-4B-AWQ", {"tensor_parallel_size": 8}, "group of 128", id="quantization groups"),
        pytest.param("state-spaces/mamba2-default", {"tensor_parallel_size": 16}, "8 groups", id="state groups"),
        pytest.param(LLAMA, {"pipeline_parallel_size": 33}, "32 layers", id="stages"),
        pytest.param(LLAMA, {"enable_expert_parallel": True}, "dense", id="experts"),
        pytest.param(
            LLAMA, {"tensor_parallel_size": 8, "decode_context_parallel_size": 2}, "16 or more", id="context heads"
        ),
        pytest.param(
            LLAMA, {"tensor_parallel_size": 16, "decode_context_parallel_size": 3}, "does not divide", id="context"
        ),
    ],
)
def test_what_vllm_refuses_is_told_with_its_numbers(model: str, asked: dict[str, Any], words: str) -> None:
    (problem,) = parallelism_problems(oracle_facts(model), EngineSettings(**asked))
    assert words in problem


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        pytest.param(LLAMA, {"tensor_parallel_size": 32}, id="copied heads"),
        pytest.param(QWEN_MOE, {"tensor_parallel_size": 8, "enable_expert_parallel": True}, id="experts"),
        pytest.param("deepseek-ai/DeepSeek-R1", {"tensor_parallel_size": 16}, id="latent"),
        pytest.param(
            "zai-org/GLM-4.5V-default",
            {"tensor_parallel_size": 8, "flags": {"mm_encoder_tp_mode": "data"}},
            id="whole tower",
        ),
        pytest.param("state-spaces/mamba2-default", {"tensor_parallel_size": 8}, id="state groups"),
    ],
)
def test_what_vllm_runs_passes(model: str, asked: dict[str, Any]) -> None:
    assert parallelism_problems(oracle_facts(model), EngineSettings(**asked)) == ()


@pytest.mark.parametrize(
    ("model", "asked", "device", "words"),
    [
        pytest.param(LLAMA, {"kv_cache_dtype": "fp8"}, A100, "8.9", id="FP8 on Ampere"),
        pytest.param(LLAMA, {"kv_cache_dtype": "nvfp4"}, H100, "Blackwell", id="NVFP4 on Hopper"),
        pytest.param(LLAMA, {"kv_cache_dtype": "int8"}, H100, "int8", id="no such dtype"),
        pytest.param("deepseek-ai/DeepSeek-V3.2", {}, L4, "sparse", id="sparse on Ada"),
        pytest.param("nvidia/GLM-5-NVFP4", {}, H100, "fp8_e4m3", id="sparse with the checkpoint's FP8 on Hopper"),
        pytest.param("deepseek-ai/DeepSeek-V2-Lite", {"dtype": "float32"}, H100, "float32", id="latent in float32"),
        pytest.param("openai/gpt-oss-20b", {"dtype": "float32"}, H100, "MXFP4", id="MXFP4 in float32"),
        pytest.param(LLAMA, {"quantization": "bitsandbytes"}, H100, "plugin", id="left for plugins"),
        pytest.param(
            "ai21labs/AI21-Jamba-1.5-Mini",
            {"flags": {"disable_hybrid_kv_cache_manager": True}},
            H100,
            "hybrid",
            id="states",
        ),
    ],
)
def test_what_no_kernel_runs_is_refused(model: str, asked: dict[str, Any], device: Device, words: str) -> None:
    (problem,) = kernel_problems(oracle_facts(model), EngineSettings(**asked), device)
    assert words in problem


@pytest.mark.parametrize(
    ("model", "asked", "device"),
    [
        pytest.param(LLAMA, {"kv_cache_dtype": "fp8"}, L4, id="FP8 on Ada"),
        pytest.param(LLAMA, {"kv_cache_dtype": "nvfp4"}, B200, id="NVFP4 on Blackwell"),
        pytest.param("nvidia/GLM-5-NVFP4", {}, B200, id="sparse FP8 on Blackwell"),
        pytest.param("state-spaces/mamba2-default", {"kv_cache_dtype": "fp8"}, A100, id="nothing to convert"),
        pytest.param(LLAMA, {"quantization": "bitsandbytes", "version": "0.19.0"}, H100, id="still in that version"),
    ],
)
def test_what_a_kernel_runs_passes(model: str, asked: dict[str, Any], device: Device) -> None:
    assert kernel_problems(oracle_facts(model), EngineSettings(**asked), device) == ()
