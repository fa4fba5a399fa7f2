"""What planning asks of the weights, beyond the reference rows."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_operator.models import catalogue
from vllm_operator.models.checkpoint import checkpoint_of
from vllm_operator.models.facts import (
    CheckpointFacts,
    Device,
    EngineSettings,
    FactsBasis,
    ModelFacts,
    TensorFacts,
)
from vllm_operator.models.parse import parse_model
from vllm_operator.models.settings import resolve_settings
from vllm_operator.models.source.given import facts_of_parameter_count
from vllm_operator.models.weights import WeightBytes, parameters, weigh, weights_by_stage

H100 = Device(product="NVIDIA H100 80GB HBM3", memory_bytes=80 << 30, compute_capability="9.0")
B200 = Device(product="NVIDIA B200", memory_bytes=178 << 30, compute_capability="10.0")
L4 = Device(product="NVIDIA L4", memory_bytes=22 << 30, compute_capability="8.9")


def facts_of(model: str) -> ModelFacts:
    facts = catalogue.lookup(model)
    assert facts is not None
    return facts


def weights_of(facts: ModelFacts, device: Device = H100, **asked: Any) -> WeightBytes:
    stages = weights_by_stage(facts, resolve_settings(facts, EngineSettings(**asked), device), device)
    return max(stages, key=lambda stage: stage.loaded_bytes)


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8.030261248),
        ("meta-llama/Llama-3.1-405B-Instruct", 405.853388800),
        ("Qwen/Qwen2.5-72B-Instruct", 72.706203648),
        ("Qwen/Qwen3-8B", 8.190735360),
        ("Qwen/Qwen3-30B-A3B", 30.532122624),
        ("mistralai/Mixtral-8x22B-Instruct-v0.1", 140.630071296),
        ("google/gemma-2-9b-it", 9.241705984),
        ("google/gemma-2-27b-it", 27.227128320),
    ],
)
def test_parameter_counts_are_the_published_ones(model: str, billions: float) -> None:
    assert parameters(facts_of(model)) / 1e9 == pytest.approx(billions, rel=1e-3)


def test_the_fullest_stage_counts() -> None:
    facts = facts_of("meta-llama/Llama-3.1-8B-Instruct")
    resolved = resolve_settings(facts, EngineSettings(pipeline_parallel_size=3), H100)
    stages = weights_by_stage(facts, resolved, H100)
    assert [stage.parameter_bytes for stage in stages] == [5849137152, 4798464000, 5412921344]
    assert max(stages, key=lambda stage: stage.loaded_bytes) == stages[0]


def test_rotary_tables_are_loaded_beside_the_parameters() -> None:
    weights = weights_of(facts_of("meta-llama/Llama-3.1-8B-Instruct"))
    # vLLM logs 14.99 GiB for parameters of 14.96 GiB.
    assert weights.loaded_bytes / 2**30 == pytest.approx(14.9889, abs=1e-3)
    assert weights.parameter_bytes == 16060522496


def test_quantizing_at_load_changes_what_is_loaded_not_what_is_allocated() -> None:
    facts = facts_of("meta-llama/Llama-3.1-8B-Instruct")
    weights = weights_of(facts, quantization="fp8")
    assert weights.parameter_bytes == weights_of(facts).parameter_bytes
    assert weights.loaded_bytes / 2**30 == pytest.approx(8.49, abs=0.01)


@pytest.mark.parametrize(
    ("device", "expected"), [(H100, 13761264768), (L4, 14679227520), (B200, 13761264768)], ids=["H100", "L4", "B200"]
)
def test_mxfp4_experts_are_padded_by_the_kernel_of_the_gpu(device: Device, expected: int) -> None:
    weights = weights_of(facts_of("openai/gpt-oss-20b"), device)
    assert weights.parameter_bytes == pytest.approx(expected, rel=1e-3)


def test_expert_parallelism_deals_whole_experts() -> None:
    facts = facts_of("Qwen/Qwen3-235B-A22B")
    divided = weights_of(facts, tensor_parallel_size=8)
    dealt = weights_of(facts, tensor_parallel_size=8, enable_expert_parallel=True)
    assert dealt.parameter_bytes == divided.parameter_bytes
    spread = weights_of(facts, tensor_parallel_size=8, data_parallel_size=2, enable_expert_parallel=True)
    assert spread.parameter_bytes < 0.6 * dealt.parameter_bytes


def test_a_repeated_tied_head_is_not_loaded_twice() -> None:
    facts = facts_of("Qwen/Qwen3-0.6B")
    repeated = replace(facts, checkpoint=CheckpointFacts(has_lm_head=True))
    assert weights_of(repeated).parameter_bytes == weights_of(facts).parameter_bytes == 1192099840


def test_a_head_of_its_own_counts_where_the_config_is_silent() -> None:
    config = {key: value for key, value in facts_of("google/gemma-2b").config.items() if key != "tie_word_embeddings"}
    silent = parse_model(config)
    own = parse_model(config, checkpoint=CheckpointFacts(has_lm_head=True))
    assert weights_of(own).parameter_bytes - weights_of(silent).parameter_bytes == 256000 * 2048 * 2


def test_an_embedding_model_has_no_head() -> None:
    facts = facts_of("Qwen/Qwen3-Embedding-8B")
    embeds = weights_of(replace(facts, generates=False))
    # vLLM 0.12.0 logs 14.1062 GiB for it.
    assert embeds.loaded_bytes / 2**30 == pytest.approx(14.1062, rel=1e-3)


def unknown_config() -> dict[str, Any]:
    return {
        "architectures": ["NovelForCausalLM"],
        "model_type": "novel",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 640,
        "max_position_embeddings": 1024,
        "torch_dtype": "bfloat16",
    }


def tensor(name: str, *shape: int) -> TensorFacts:
    size = 2
    for dimension in shape:
        size *= dimension
    return TensorFacts(name=name, dtype="BF16", shape=shape, stored_bytes=size)


def test_an_unknown_family_is_an_estimate() -> None:
    weights = weights_of(parse_model(unknown_config()))
    assert not weights.exact
    assert weights.basis is FactsBasis.CONFIG


def test_an_unknown_family_takes_its_tensors_from_the_files() -> None:
    tensors = [
        tensor("model.embed_tokens.weight", 640, 64),
        tensor("model.layers.0.self_attn.q_proj.weight", 64, 64),
        tensor("model.layers.0.strange.norm.weight", 64),
        tensor("model.layers.1.mlp.experts.3.w1.weight", 128, 64),
        tensor("lm_head.weight", 640, 64),
        tensor("mtp.layers.0.eh_proj.weight", 64, 128),
        tensor("model.layers.2.eh_proj.weight", 64, 128),
    ]
    facts = parse_model(unknown_config(), checkpoint=checkpoint_of(tensors))
    loaded = sum(part.stored_bytes for part in tensors[:5])
    one, two = weights_of(facts), weights_of(facts, tensor_parallel_size=2)
    assert one.parameter_bytes == loaded
    assert two.parameter_bytes == (loaded - 128) // 2 + 128
    assert (one.basis, one.exact) == (FactsBasis.SAFETENSORS_HEADERS, False)


def test_an_unknown_family_is_scaled_to_the_size_of_its_files() -> None:
    checkpoint = CheckpointFacts(total_bytes=10_000_000)
    facts = parse_model(unknown_config(), checkpoint=checkpoint)
    weights = weights_of(facts)
    assert weights.parameter_bytes == 10_000_000
    assert weights.basis is FactsBasis.CHECKPOINT_SIZE


def test_headers_confirm_a_known_family() -> None:
    facts = facts_of("meta-llama/Llama-3.1-8B-Instruct")
    headed = replace(facts, checkpoint=checkpoint_of([tensor("lm_head.weight", 128256, 4096)]))
    assert weights_of(headed).basis is FactsBasis.SAFETENSORS_HEADERS
    assert weights_of(headed).parameter_bytes == 16060522496


@pytest.mark.parametrize(
    ("quantization", "bytes_each"), [(None, 2.0), ("fp8", 1.0), ("awq", 0.53125), ("mxfp4", 0.5625)]
)
def test_a_bare_count_gives_weights(quantization: str | None, bytes_each: float) -> None:
    facts = facts_of_parameter_count(8.0, uri="org/unknown")
    resolved = resolve_settings(
        replace(facts, max_model_len=4096), EngineSettings(quantization=quantization, tensor_parallel_size=2), H100
    )
    (weights,) = weights_by_stage(facts, resolved)
    assert weights.parameter_bytes == int(8e9 * bytes_each / 2)
    assert (weights.basis, weights.exact) == (FactsBasis.PARAMETER_COUNT, False)


def test_weighing_takes_under_ten_milliseconds() -> None:
    facts = facts_of("deepseek-ai/DeepSeek-V3")
    resolved = resolve_settings(facts, EngineSettings(tensor_parallel_size=8), H100)
    started = time.process_time()
    for _ in range(10):
        weights_by_stage(facts, resolved, H100)
    assert (time.process_time() - started) / 10 < 0.010


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=20), st.just([1, "x"])
)
_NAMES = st.sampled_from(
    [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
        "head_dim",
        "vocab_size",
        "n_routed_experts",
        "num_experts",
        "moe_intermediate_size",
        "kv_lora_rank",
        "layer_types",
        "moe_layer_freq",
        "mlp_only_layers",
        "vision_config",
        "text_config",
        "quantization_config",
        "rope_scaling",
        "tie_word_embeddings",
        "expert_layer_period",
        "decoder_sparse_step",
        "compress_ratios",
        "o_groups",
        "hybrid_override_pattern",
        "layers_block_type",
        "linear_attn_config",
    ]
)
_KINDS = st.sampled_from(
    [
        "llama",
        "deepseek_v3",
        "deepseek_v4",
        "qwen3_next",
        "nemotron_h",
        "jamba",
        "gemma4_text",
        "gemma3n_text",
        "kimi_linear",
        "granitemoehybrid",
        "lfm2",
        "mamba2",
        "whisper",
        "bert",
        "qwen3_vl",
        "minimax_m3",
        "mimo_v2_flash",
        "falcon",
        "new",
    ]
)
_VALUES = st.one_of(
    _SCALARS,
    st.lists(_SCALARS, max_size=6),
    st.dictionaries(_NAMES, _SCALARS, max_size=6),
)


@settings(max_examples=300, deadline=None)
@given(kind=_KINDS, fields=st.dictionaries(_NAMES, _VALUES, max_size=14))
def test_any_config_has_a_weight(kind: str, fields: dict[str, Any]) -> None:
    assert weigh({**fields, "model_type": kind}).parameter_count() >= 0


_HUGE = 10**9


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "num_hidden_layers": _HUGE, "hidden_size": _HUGE, "vocab_size": _HUGE},
        {"model_type": "nemotron_h", "hybrid_override_pattern": "-" * 10**6, "intermediate_size": list(range(10**5))},
        {"model_type": "granitemoehybrid", "layer_types": ["mamba"] * 10**6, "hidden_size": 64},
        {"model_type": "deepseek_v4", "num_hidden_layers": _HUGE, "compress_ratios": list(range(10**6))},
        {"model_type": "qwen3_moe", "num_hidden_layers": _HUGE, "mlp_only_layers": [[1], None, *range(10**5)]},
        {"model_type": "qwen3_vl", "vision_config": {"deepstack_visual_indexes": list(range(10**6))}},
        {
            "model_type": "llama",
            "num_hidden_layers": 126,
            "quantization_config": {
                "quant_method": "fp8",
                "modules_to_not_convert": [f"a*b*{index}" for index in range(20_000)],
            },
        },
    ],
    ids=lambda config: str(config["model_type"]),
)
def test_oversized_configs_are_weighed_in_bounded_time(config: dict[str, Any]) -> None:
    started = time.perf_counter()
    weigh(config).parameter_count()
    assert time.perf_counter() - started < 5


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(
        ["Qwen/Qwen3-32B", "deepseek-ai/DeepSeek-V3", "google/gemma-3-27b-it", "openai/gpt-oss-120b"]
    ),
    tensor_parallel=st.sampled_from([1, 2, 4]),
    pipeline=st.sampled_from([1, 2]),
)
def test_more_gpus_never_hold_more_each(model: str, tensor_parallel: int, pipeline: int) -> None:
    facts = facts_of(model)
    one = weights_of(facts, tensor_parallel_size=tensor_parallel, pipeline_parallel_size=pipeline)
    more = weights_of(facts, tensor_parallel_size=2 * tensor_parallel, pipeline_parallel_size=pipeline)
    assert more.loaded_bytes <= one.loaded_bytes


_QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151936,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "tie_word_embeddings": False,
}
_GEMMA3_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "vision_use_head": False,
    },
    "mm_tokens_per_image": 256,
}
_MINICPM3 = {
    "architectures": ["MiniCPM3ForCausalLM"],
    "model_type": "minicpm3",
    "hidden_size": 2560,
    "intermediate_size": 6400,
    "num_hidden_layers": 62,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
    "vocab_size": 73448,
    "kv_lora_rank": 256,
    "q_lora_rank": 768,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "tie_word_embeddings": False,
}
_LONGCAT = {
    "architectures": ["LongcatFlashForCausalLM"],
    "model_type": "longcat_flash",
    "hidden_size": 6144,
    "num_layers": 28,
    "num_attention_heads": 64,
    "vocab_size": 131072,
    "ffn_hidden_size": 12288,
    "expert_ffn_hidden_size": 2048,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 512,
    "zero_expert_num": 256,
    "moe_topk": 12,
}
_REWARD = {
    "architectures": ["Qwen2ForRewardModel"],
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    ("config", "tensor_parallel", "pipeline", "expected"),
    [
        pytest.param(_QWEN3_MOE, 2, 2, (15583625216, 15583625216), id="embedding and head on each stage"),
        pytest.param(_GEMMA3_4B, 1, 1, (8600158944,), id="fields that the class fills in"),
        pytest.param(_MINICPM3, 1, 1, (8524051456,), id="value heads of the hidden size"),
        pytest.param(_LONGCAT, 8, 1, (141934854144,), id="two attentions around one part of experts"),
        pytest.param(_REWARD, 1, 1, (14192647172,), id="float32 reward head"),
    ],
)
def test_weights_are_those_that_vllm_allocates(
    config: dict[str, Any], tensor_parallel: int, pipeline: int, expected: tuple[int, ...]
) -> None:
    """Expected: bytes of the parameters of vLLM 0.33's own classes on PyTorch's meta device."""
    facts = parse_model({"torch_dtype": "bfloat16", "max_position_embeddings": 4096, **config})
    asked = EngineSettings(tensor_parallel_size=tensor_parallel, pipeline_parallel_size=pipeline)
    stages = weights_by_stage(facts, resolve_settings(facts, asked, H100), H100)
    assert [stage.parameter_bytes for stage in stages] == pytest.approx(list(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("model", "asked", "speculative", "added_gib"),
    [
        # EAGLE3-LLaMA3.1-Instruct-8B is a file of 0.79 GiB.
        pytest.param("meta-llama/Llama-3.1-8B-Instruct", {}, {"method": "eagle3"}, 0.79, id="eagle"),
        # DeepSeek-V3 names 11.5 billion parameters for its module, in FP8 over eight ranks, and the projection.
        pytest.param("deepseek-ai/DeepSeek-V3", {"tensor_parallel_size": 8}, {"method": "mtp"}, 1.55, id="mtp"),
        pytest.param("meta-llama/Llama-3.1-8B-Instruct", {}, {"method": "ngram"}, 0.0, id="ngram"),
        pytest.param("meta-llama/Llama-3.1-8B-Instruct", {}, {"model": "org/Llama-3.2-1B"}, 1.86, id="second-model"),
    ],
)
def test_a_draft_is_loaded_with_the_model(
    model: str, asked: dict[str, Any], speculative: dict[str, Any], added_gib: float
) -> None:
    facts = facts_of(model)
    alone, drafting = weights_of(facts, **asked), weights_of(facts, speculative=speculative, **asked)
    assert (drafting.loaded_bytes - alone.loaded_bytes) / 2**30 == pytest.approx(added_gib, abs=0.02)
    assert drafting.parameter_bytes == alone.parameter_bytes
    assert drafting.exact is (added_gib == 0.0)


def test_shared_experts_are_whole_where_ranks_have_tokens_of_their_own() -> None:
    facts = facts_of("deepseek-ai/DeepSeek-V3")
    asked = {"tensor_parallel_size": 2, "data_parallel_size": 4, "enable_expert_parallel": True}
    before, since = weights_of(facts, version="0.10.2", **asked), weights_of(facts, version="0.11.0", **asked)
    added = since.parameter_bytes - before.parameter_bytes
    assert added == pytest.approx(58 * 3 * 7168 * 2048 / 2, rel=0.01)


def test_mxfp4_on_blackwell_is_called_an_estimate() -> None:
    facts = facts_of("openai/gpt-oss-120b")
    on_blackwell, on_hopper = weights_of(facts, B200), weights_of(facts, H100)
    assert (on_blackwell.exact, on_hopper.exact) == (False, True)
    assert on_blackwell.loaded_bytes > 1.1 * on_blackwell.parameter_bytes
