from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.models.kv_oracle import oracle

from vllm_operator.models.caches import AttentionCache, CrossCache, LatentCache, StateCache
from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.facts import Device, EngineSettings, ModelFacts
from vllm_operator.models.kv import kv_layout
from vllm_operator.models.parse import parse_model
from vllm_operator.models.settings import resolve_settings
from vllm_operator.models.validity import kernel_problems, parallelism_problems

H100 = Device(product="NVIDIA H100 80GB HBM3", memory_bytes=80 * 2**30)
LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


def attention(heads: int, size: int, **more: Any) -> AttentionCache:
    return AttentionCache(num_kv_heads=heads, head_size=size, head_size_v=size, **more)


def kinds(facts: ModelFacts) -> str:
    """One letter for each layer."""
    letters = {AttentionCache: "A", LatentCache: "L", StateCache: "S", CrossCache: "X"}
    return " ".join("".join(letters[type(cache)] for cache in layer) or "-" for layer in facts.caches)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"n_head": 12, "n_embd": 768, "n_layer": 2, "n_positions": 1024}, attention(12, 64), id="gpt2"),
        pytest.param(
            {"n_head": 48, "n_embd": 6144, "n_layer": 2, "multi_query": True}, attention(1, 128), id="multi query"
        ),
        pytest.param(
            {"n_heads": 48, "d_model": 6144, "n_layers": 2, "attn_config": {"kv_n_heads": 8}},
            attention(8, 128),
            id="dbrx",
        ),
        pytest.param({"n_head": 112, "n_embed": 14336, "n_layer": 2}, attention(112, 128), id="bloom"),
        pytest.param(
            {
                "num_attention_heads": 32,
                "hidden_size": 4096,
                "num_layers": 2,
                "kv_channels": 128,
                "multi_query_attention": True,
                "multi_query_group_num": 2,
            },
            attention(2, 128),
            id="chatglm",
        ),
        pytest.param(
            {"num_attention_heads": 71, "hidden_size": 4544, "num_hidden_layers": 2, "multi_query": True},
            attention(1, 64),
            id="falcon 7b",
        ),
        pytest.param(
            {
                "num_attention_heads": 128,
                "hidden_size": 8192,
                "num_hidden_layers": 2,
                "multi_query": True,
                "new_decoder_architecture": True,
                "num_kv_heads": 8,
            },
            attention(8, 64),
            id="falcon 40b",
        ),
        pytest.param(
            {"num_attention_heads": 64, "hidden_size": 2048, "num_hidden_layers": 2, "head_dim": 128},
            attention(64, 128),
            id="stated head size",
        ),
        pytest.param(
            {"num_attention_heads": 16, "hidden_size": 2048, "num_hidden_layers": 2, "head_dim": None},
            attention(16, 128),
            id="null head size",
        ),
        pytest.param(
            {"num_attention_heads": 64, "hidden_size": 4096, "num_hidden_layers": 2, "num_attention_groups": 8},
            attention(8, 64),
            id="step",
        ),
    ],
)
def test_heads_are_read_by_every_name_in_use(fields: dict[str, Any], expected: AttentionCache) -> None:
    facts = parse_model({"architectures": ["LlamaForCausalLM"], **fields})
    assert facts.caches == ((expected,),) * 2


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {"model_type": "jamba", "attn_layer_period": 4, "attn_layer_offset": 2, "mamba_d_state": 16},
            "S S A S S S",
            id="jamba",
        ),
        pytest.param(
            {"model_type": "bamba", "attn_layer_indices": [1, 4], "mamba_n_heads": 8, "mamba_d_state": 128},
            "S A S S A S",
            id="bamba",
        ),
        pytest.param(
            {"model_type": "falcon_h1", "mamba_n_heads": 8, "mamba_d_head": 64, "mamba_d_state": 128},
            "AS AS AS AS AS AS",
            id="falcon h1",
        ),
        pytest.param(
            {
                "model_type": "zamba2",
                "layers_block_type": ["mamba", "hybrid", "mamba", "mamba", "hybrid", "mamba"],
                "n_mamba_heads": 8,
                "mamba_d_state": 64,
            },
            "S AS S S AS S",
            id="zamba2",
        ),
        pytest.param(
            {
                "model_type": "nemotron_h",
                "hybrid_override_pattern": "M-M*EM",
                "mamba_num_heads": 8,
                "ssm_state_size": 64,
            },
            "S - S A - S",
            id="nemotron h",
        ),
        pytest.param(
            {"model_type": "plamo2", "mamba_step": 2, "mamba_num_heads": 8, "mamba_d_state": 64},
            "S A S A S A",
            id="plamo2",
        ),
        pytest.param({"model_type": "minimax", "attn_type_list": [0, 0, 1, 0, 0, 1]}, "S S A S S A", id="minimax 01"),
        pytest.param({"model_type": "bailing_moe_linear", "layer_group_size": 3}, "S S A S S A", id="ring linear"),
        pytest.param({"model_type": "lfm2", "conv_L_cache": 3, "full_attn_idxs": [2, 5]}, "S S A S S A", id="lfm2"),
        pytest.param(
            {
                "model_type": "qwen3_next",
                "full_attention_interval": 3,
                "linear_num_value_heads": 8,
                "linear_num_key_heads": 4,
                "linear_key_head_dim": 64,
                "linear_value_head_dim": 64,
            },
            "S S A S S A",
            id="qwen3 next",
        ),
        pytest.param(
            {
                "model_type": "kimi_linear",
                "kv_lora_rank": 512,
                "qk_rope_head_dim": 64,
                "linear_attn_config": {"kda_layers": [1, 2, 4, 5], "head_dim": 128, "num_heads": 8},
            },
            "S S L S S L",
            id="kimi linear",
        ),
        pytest.param({"model_type": "longcat_flash", "kv_lora_rank": 512}, "LL LL LL LL LL LL", id="longcat"),
        pytest.param({"model_type": "whisper", "is_encoder_decoder": True}, "AX AX AX AX AX AX", id="encoder-decoder"),
        pytest.param({"model_type": "gemma3n_text", "num_kv_shared_layers": 2}, "A A A A - -", id="shared layers"),
        pytest.param(
            {
                "model_type": "nemotron-nas",
                "block_configs": [{"attention": {"no_op": index == 1}} for index in range(6)],
            },
            "A - A A A A",
            id="left out layers",
        ),
    ],
)
def test_layers_are_told_apart_by_family(fields: dict[str, Any], expected: str) -> None:
    facts = parse_model({**LLAMA, "num_hidden_layers": 6, **fields})
    assert kinds(facts) == expected


@pytest.mark.parametrize(
    ("fields", "windows"),
    [
        pytest.param({"model_type": "gemma2", "sliding_window": 4096}, "SFSFSF", id="gemma2"),
        pytest.param({"model_type": "gemma3_text", "sliding_window": 512}, "SSSSSF", id="gemma3"),
        pytest.param({"model_type": "cohere2", "sliding_window": 4096}, "SSSFSS", id="cohere2"),
        pytest.param(
            {"model_type": "cohere2", "sliding_window": 4096, "sliding_window_pattern": 3}, "SSFSSF", id="own"
        ),
        pytest.param(
            {"model_type": "exaone4", "sliding_window": 4096, "sliding_window_pattern": "LLLG"}, "SSSFSF", id="exaone4"
        ),
        pytest.param(
            {"model_type": "olmo3", "sliding_window": 4096, "layer_types": ["sliding_attention", "full_attention"] * 3},
            "SFSFSF",
            id="olmo3",
        ),
        pytest.param({"model_type": "mistral", "sliding_window": 4096}, "SSSSSS", id="mistral"),
        pytest.param({"model_type": "mistral", "sliding_window": None}, "FFFFFF", id="mistral without"),
        pytest.param({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": False}, "FFFFFF", id="qwen2"),
        pytest.param({"model_type": "llama4_text", "attention_chunk_size": 8192}, "CCCFCC", id="llama4"),
        pytest.param(
            {"model_type": "mimo_v2_flash", "sliding_window": 128, "hybrid_layer_pattern": [0, 1, 1, 0, 1, 1]},
            "FSSFSS",
            id="mimo v2",
        ),
    ],
)
def test_windows_follow_the_familys_pattern(fields: dict[str, Any], windows: str) -> None:
    facts = parse_model({**LLAMA, "num_hidden_layers": 6, **fields})
    caches = [cache for layer in facts.caches for cache in layer if isinstance(cache, AttentionCache)]
    assert "".join("S" if cache.window else "C" if cache.chunk else "F" for cache in caches) == windows


def test_indexers_that_layers_share_are_kept_once() -> None:
    fields = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "index_topk": 2048, "index_head_dim": 128}
    shared = {"index_topk_freq": 4, "index_skip_topk_offset": 3}
    facts = parse_model({**LLAMA, "num_hidden_layers": 8, **fields, **shared})
    assert [len(layer) for layer in facts.caches] == [2, 2, 2, 1, 1, 1, 2, 1]


def test_a_wrappers_language_model_gets_what_its_class_fills_in() -> None:
    stated = {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024}
    facts = parse_model(
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "text_config": stated,
            "vision_config": {"num_attention_heads": 16},
        }
    )
    assert (facts.num_kv_heads, facts.head_dim, facts.vocab_size, facts.max_model_len) == (4, 256, 262208, 131072)
    assert facts.is_multimodal
    assert sum(1 for (cache,) in facts.caches if isinstance(cache, AttentionCache) and cache.window) == 29


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"model_type": "gemma3_text", "use_bidirectional_attention": True}, id="embedding gemma"),
        pytest.param({"is_causal": False}, id="not causal"),
    ],
)
def test_decoders_told_to_attend_both_ways_keep_nothing(fields: dict[str, Any]) -> None:
    facts = parse_model({**LLAMA, **fields})
    assert (facts.caches, facts.generates) == ((), False)


def test_encoders_keep_nothing_and_decoders_that_embed_do() -> None:
    encoder = parse_model({**LLAMA, "architectures": ["BertModel"], "model_type": "bert"})
    decoder = parse_model({**LLAMA, "architectures": ["Qwen2ForSequenceClassification"]})
    assert (encoder.caches, encoder.generates) == ((), False)
    assert (len(decoder.caches), decoder.generates) == (32, False)


@pytest.mark.parametrize(
    ("fields", "longest", "default"),
    [
        pytest.param({}, 131072, 131072, id="stated"),
        pytest.param({"model_max_length": 4096}, 4096, 4096, id="model_max_length wins"),
        pytest.param({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, 262144, 262144, id="linear"),
        pytest.param(
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
            131072,
            131072,
            id="yarn, whose factor the stated length includes",
        ),
        pytest.param(
            {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}, "x": {"rope_type": "yarn"}}},
            262144,
            262144,
            id="one scaling for each kind of layer",
        ),
        pytest.param(
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 131072, 131072, id="yarn without original"
        ),
        pytest.param({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072, 131072, id="llama3"),
        pytest.param(
            {"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 4096},
            131072,
            4096,
            id="longrope",
        ),
    ],
)
def test_length_is_derived_as_vllm_derives_it(fields: dict[str, Any], longest: int, default: int) -> None:
    facts = parse_model({**LLAMA, **fields})
    assert (facts.max_model_len, facts.default_max_model_len) == (longest, default)


@pytest.mark.parametrize(
    ("stated", "beside", "expected"),
    [
        pytest.param({"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, None, "fp8", id="compressed-tensors"),
        pytest.param({"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}, None, "fp8_e4m3", id="modelopt"),
        pytest.param(
            None,
            {"producer": {"name": "modelopt"}, "quantization": {"kv_cache_quant_algo": "FP8"}},
            "fp8_e4m3",
            id="modelopt's own file",
        ),
        pytest.param(None, {"quantization": {"kv_cache_quant_algo": "FP8"}}, None, id="file that is not modelopt's"),
        pytest.param({"quant_method": "fp8"}, None, None, id="weights alone say nothing"),
    ],
)
def test_checkpoint_chooses_the_cache_dtype(
    stated: dict[str, Any] | None, beside: dict[str, Any] | None, expected: str | None
) -> None:
    config = LLAMA if stated is None else {**LLAMA, "quantization_config": stated}
    facts = parse_model(config, hf_quant_config=beside)
    assert (facts.kv_cache_dtype, facts.kv_cache_quantized) == (expected, expected is not None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"architectures": []}, "architectures", id="no class"),
        pytest.param({"num_hidden_layers": None}, "num_hidden_layers", id="no layers"),
        pytest.param({"num_hidden_layers": 10**8}, "num_hidden_layers", id="absurd layers"),
        pytest.param({"num_attention_heads": "32"}, "num_attention_heads", id="heads as text"),
        pytest.param({"hidden_size": math.nan}, "hidden_size", id="not a number"),
        pytest.param({"layer_types": ["mamba"] * 32}, "layer_types", id="state without size"),
        pytest.param({"compress_ratios": [4, "x"]}, "compress_ratios", id="broken ratios"),
    ],
)
def test_what_is_missing_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        parse_model({**LLAMA, "model_type": "custom", **fields})
    assert caught.value.field == field


@pytest.mark.parametrize("config", [None, [], "config", 7])
def test_a_config_must_be_an_object(config: Any) -> None:
    with pytest.raises(ModelConfigError):
        parse_model(config)


def test_guesses_are_marked() -> None:
    facts = parse_model({**LLAMA, "architectures": ["NewForCausalLM"], "layer_types": ["quantum_attention"] * 32})
    assert len(facts.assumptions) == 2
    assert "quantum_attention" in facts.assumptions[0]
    assert parse_model(LLAMA).assumptions == ()


def test_a_huge_config_is_answered_in_time() -> None:
    huge = {**LLAMA, "layer_types": ["full_attention"] * 3_000_000, "compress_ratios": [4] * 3_000_000}
    started = time.process_time()
    with pytest.raises(ModelConfigError):
        parse_model(huge)
    assert time.process_time() - started < 0.1


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.integers(min_value=0, max_value=300),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["llama", "mamba2", "gemma3", "jamba", "deepseek_v4", "kimi_linear", "full", "MMMM*-E"]),
    st.lists(st.one_of(st.integers(-2, 300), st.text(max_size=4), st.none()), max_size=40),
    st.dictionaries(st.text(max_size=8), st.integers(-2, 300), max_size=4),
)
NAMES = sorted(
    {name for row in oracle()[0].values() for name in (*row["config"], *row["config"].get("text_config", {}))}
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    model=st.sampled_from(sorted(oracle()[0])),
    changes=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6),
    inside=st.booleans(),
    size=st.sampled_from([1, 2, 3, 8]),
    stages=st.sampled_from([1, 2]),
)
def test_any_config_is_laid_out_or_refused_by_name(
    model: str, changes: dict[str, Any], inside: bool, size: int, stages: int
) -> None:
    config = json.loads(json.dumps(oracle()[0][model]["config"]))
    target = config["text_config"] if inside and "text_config" in config else config
    target.update(changes)
    asked = EngineSettings(tensor_parallel_size=size, pipeline_parallel_size=stages)
    try:
        facts = parse_model(config)
    except ModelConfigError:
        return
    if parallelism_problems(facts, asked) or kernel_problems(facts, asked, H100):
        return
    resolved = resolve_settings(facts, asked, H100)
    layout = kv_layout(facts, resolved)
    found = layout.capacity(20 * 2**30, resolved.max_model_len)
    assert found.tokens >= 0
    assert layout.bytes_one_sequence(resolved.max_model_len) >= layout.bytes_one_sequence(1)
    if found.fits and layout.groups:
        assert layout.bytes_one_sequence(resolved.max_model_len) <= 20 * 2**30 - layout.bytes_per_block
