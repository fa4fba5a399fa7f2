from __future__ import annotations

from typing import Any

import pytest
from tests.unit.models.kv_oracle import oracle_facts

from vllm_operator.models.facts import Device, EngineSettings
from vllm_operator.models.gpu_generation import capability_of
from vllm_operator.models.kv import kv_layout
from vllm_operator.models.parse import parse_model
from vllm_operator.models.settings import resolve_settings

GIB = 2**30
H100 = Device(product="NVIDIA H100 80GB HBM3", memory_bytes=int(79.65 * GIB))
A100 = Device(product="NVIDIA A100-SXM4-80GB", memory_bytes=int(79.25 * GIB))
L4 = Device(product="NVIDIA L4", memory_bytes=int(22.49 * GIB))
T4 = Device(product="Tesla T4", memory_bytes=int(14.6 * GIB))
B200 = Device(product="NVIDIA B200", memory_bytes=int(178.35 * GIB))
LLAMA, QWEN_NEXT = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-Next-80B-A3B-Instruct"


@pytest.mark.parametrize(
    ("device", "tokens", "sequences"),
    [(H100, 8192, 1024), (A100, 2048, 256), (L4, 2048, 256), (B200, 16384, 1024)],
    ids=["H100", "A100", "L4", "B200"],
)
def test_batch_limits_follow_the_gpu(device: Device, tokens: int, sequences: int) -> None:
    resolved = resolve_settings(oracle_facts(LLAMA), EngineSettings(), device)
    assert (resolved.max_num_batched_tokens, resolved.max_num_seqs) == (tokens, sequences)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, 2 * 8192, id="two batches"),
        pytest.param({"flags": {"async_scheduling": False}}, 8192, id="one batch"),
        pytest.param({"pipeline_parallel_size": 4}, 5 * 8192, id="one more than stages"),
        pytest.param({"pipeline_parallel_size": 4, "flags": {"async_scheduling": False}}, 4 * 8192, id="stages"),
        pytest.param({"flags": {"runner": "pooling"}}, 8192, id="pooling"),
        pytest.param({"flags": {"performance_mode": "throughput"}}, 4 * 8192, id="throughput"),
        pytest.param({"version": "0.19.0"}, 8192, id="before async scheduling"),
    ],
)
def test_windows_reserve_for_every_batch_in_flight(changes: dict[str, Any], expected: int) -> None:
    assert resolve_settings(oracle_facts(LLAMA), EngineSettings(**changes), H100).max_in_flight_tokens == expected


@pytest.mark.parametrize(
    ("model", "changes", "device", "expected"),
    [
        pytest.param(LLAMA, {}, H100, 16, id="default"),
        pytest.param(LLAMA, {"block_size": 64}, H100, 64, id="asked"),
        pytest.param(QWEN_NEXT, {}, H100, 576, id="state and checkpoint of 64"),
        pytest.param(QWEN_NEXT, {"flags": {"enable_prefix_caching": False}}, H100, 544, id="state alone"),
        pytest.param(QWEN_NEXT, {}, L4, 544, id="no checkpoint kernel"),
        pytest.param(QWEN_NEXT, {}, B200, 640, id="FlashAttention 4"),
        pytest.param(QWEN_NEXT, {"flags": {"mamba_ssm_cache_dtype": "float32"}}, H100, 1088, id="wide state"),
        pytest.param("deepseek-ai/DeepSeek-R1", {}, H100, 16, id="latent"),
        pytest.param("deepseek-ai/DeepSeek-R1", {"kv_cache_dtype": "fp8"}, H100, 64, id="FlashMLA"),
        pytest.param("deepseek-ai/DeepSeek-V3.2", {}, H100, 64, id="sparse latent"),
        pytest.param("moonshotai/Kimi-Linear-48B-A3B-Instruct", {}, H100, 1920, id="state and latent"),
    ],
)
def test_block_size_follows_kernel_and_state(
    model: str, changes: dict[str, Any], device: Device, expected: int
) -> None:
    assert resolve_settings(oracle_facts(model), EngineSettings(**changes), device).block_size == expected


@pytest.mark.parametrize(
    ("model", "asked", "device", "expected"),
    [
        pytest.param(LLAMA, "auto", H100, "auto", id="model's own"),
        pytest.param("nvidia/Llama-3.1-70B-Instruct-FP8", "auto", H100, "fp8_e4m3", id="checkpoint"),
        pytest.param("nvidia/Llama-3.1-70B-Instruct-FP8", "bfloat16", H100, "bfloat16", id="asked wins"),
        pytest.param("deepseek-ai/DeepSeek-V3.2", "fp8", H100, "fp8_ds_mla", id="packed on Hopper"),
        pytest.param("deepseek-ai/DeepSeek-V3.2", "fp8", B200, "fp8", id="plain on Blackwell"),
        pytest.param("zai-org/GLM-5", "auto", B200, "fp8_e4m3", id="GLM-5 on Blackwell"),
        pytest.param("deepseek-ai/DeepSeek-V4-Flash", "auto", H100, "fp8_ds_mla", id="always packed"),
    ],
)
def test_cache_dtype_follows_checkpoint_kernel_and_request(
    model: str, asked: str, device: Device, expected: str
) -> None:
    assert (
        resolve_settings(oracle_facts(model), EngineSettings(kv_cache_dtype=asked), device).kv_cache_dtype == expected
    )


@pytest.mark.parametrize(
    ("fields", "kv_heads", "expected"),
    [
        pytest.param(
            {"model_type": "falcon_h1", "mamba_d_ssm": 1024, "mamba_n_heads": 128, "mamba_d_state": 256},
            8,
            144,
            id="falcon h1",
        ),
        pytest.param(
            {
                "model_type": "qwen3_5_moe_text",
                "head_dim": 256,
                "full_attention_interval": 4,
                "linear_num_value_heads": 64,
                "linear_num_key_heads": 16,
                "linear_key_head_dim": 128,
                "linear_value_head_dim": 128,
                "mamba_ssm_dtype": "float32",
            },
            2,
            2112,
            id="qwen3.5 122b",
        ),
    ],
)
def test_block_sizes_that_start_ups_reported_for_other_models(
    fields: dict[str, Any], kv_heads: int, expected: int
) -> None:
    sizes = {"hidden_size": 4096, "num_hidden_layers": 8, "num_attention_heads": 32, "num_key_value_heads": kv_heads}
    facts = parse_model({"architectures": ["FalconH1ForCausalLM"], **sizes, **fields})
    assert resolve_settings(facts, EngineSettings(), H100).block_size == expected


def test_old_cards_run_bfloat16_checkpoints_in_float16() -> None:
    assert resolve_settings(oracle_facts(LLAMA), EngineSettings(), T4).dtype == "float16"


def test_states_are_reserved_for_drafted_tokens_too() -> None:
    asked = EngineSettings(speculative={"method": "mtp", "num_speculative_tokens": 2})
    assert resolve_settings(oracle_facts(QWEN_NEXT), asked, H100).state_blocks == 3 + 2


@pytest.mark.parametrize(
    ("product", "stated", "expected"),
    [
        ("NVIDIA-H100-80GB-HBM3", None, (9, 0)),
        ("NVIDIA GH200 480GB", None, (9, 0)),
        ("NVIDIA GB200", None, (10, 0)),
        ("NVIDIA L40S", None, (8, 9)),
        ("NVIDIA A10G", None, (8, 6)),
        ("NVIDIA A100-PCIE-40GB MIG 1g.5gb", None, (8, 0)),
        ("Tesla T4", None, (7, 5)),
        ("NVIDIA GB10", None, (12, 1)),
        ("NVIDIA RTX PRO 6000 Blackwell", None, (12, 0)),
        ("some card", "8.9", (8, 9)),
        (None, None, (9, 0)),
    ],
)
def test_compute_capability_is_stated_or_known_by_product(
    product: str | None, stated: str | None, expected: tuple[int, int]
) -> None:
    device = Device(product=product, memory_bytes=GIB, compute_capability=stated)
    assert capability_of(device) == expected


_OLMO_HYBRID = {
    "architectures": ["OlmoHybridForCausalLM"],
    "model_type": "olmo_hybrid",
    "hidden_size": 3840,
    "num_hidden_layers": 32,
    "num_attention_heads": 30,
    "num_key_value_heads": 30,
    "layer_types": [*["linear_attention"] * 3, "full_attention"] * 8,
    "linear_num_key_heads": 30,
    "linear_num_value_heads": 30,
    "linear_key_head_dim": 96,
    "linear_value_head_dim": 192,
    "linear_conv_kernel_dim": 4,
}
_LING = {
    "architectures": ["BailingMoeV2_5ForCausalLM"],
    "model_type": "bailing_hybrid",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "layer_group_size": 8,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
}


@pytest.mark.parametrize(
    ("config", "block_size", "bytes_one_sequence"),
    [
        pytest.param(_OLMO_HYBRID, 80, 8119910400, id="gated delta without checkpoints"),
        pytest.param(_LING, 256, 620494848, id="lightning heads of the rotary size"),
    ],
)
def test_states_of_other_hybrids_are_those_of_vllm(
    config: dict[str, Any], block_size: int, bytes_one_sequence: int
) -> None:
    """Expected: what the planner of vLLM 0.33 made of the layers of its own class."""
    length = 65536 if config is _OLMO_HYBRID else 131072
    facts = parse_model({"torch_dtype": "bfloat16", "max_position_embeddings": length, "vocab_size": 1000, **config})
    resolved = resolve_settings(facts, EngineSettings(), H100)
    assert resolved.block_size == block_size
    assert kv_layout(facts, resolved).bytes_one_sequence(length) == bytes_one_sequence


@pytest.mark.parametrize(
    ("architecture", "tokens"),
    [
        pytest.param("Qwen3ForSequenceClassification", 8192, id="last token: in chunks"),
        pytest.param("Qwen2ForProcessRewardModel", 40960, id="each step: in one piece"),
        pytest.param("BertModel", 40960, id="both ways: in one piece"),
    ],
)
def test_pooling_models_take_prompts_in_chunks_where_the_pooling_allows(architecture: str, tokens: int) -> None:
    config = {"model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 16}
    facts = parse_model({**config, "architectures": [architecture], "max_position_embeddings": 40960})
    assert resolve_settings(facts, EngineSettings(), H100).max_num_batched_tokens == tokens
