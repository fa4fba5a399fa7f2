"""Rows of `predict`: how they are read, and the fields of the answer."""

from __future__ import annotations

from typing import Any

import pytest
from tests.accuracy.starts import later_starts, starts

from vllm_operator.models.devices import devices_of
from vllm_operator.models.parse import parse_model
from vllm_operator.models.predict import answer
from vllm_operator.models.run_row import RowError, RunRow, engine_settings

GIB = 1024**3
CONTRACT_FIELDS = {
    "id",
    "parameter_bytes",
    "weights_gib",
    "activation_gib",
    "cuda_graph_gib",
    "non_torch_gib",
    "kv_cache_gib",
    "kv_cache_gib_interval",
    "block_size",
    "num_gpu_blocks",
    "kv_cache_tokens",
    "kv_bytes_one_sequence",
    "max_concurrency",
    "starts",
    "failure",
    "estimated_max_model_len",
    "basis",
    "notes",
}
LLAMA_8B = parse_model(
    {
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
)
GEMMA_12B = parse_model(
    {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 3840,
            "intermediate_size": 15360,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "num_hidden_layers": 48,
            "vocab_size": 262208,
            "sliding_window": 1024,
            "sliding_window_pattern": 6,
            "max_position_embeddings": 131072,
        },
        "torch_dtype": "bfloat16",
    }
)


def _row(**fields: Any) -> RunRow:
    return RunRow.model_validate({"id": "r", "gpu": "NVIDIA H100 80GB HBM3", "vllm_version": "0.19.0", **fields})


def test_answer_has_every_field_of_the_contract() -> None:
    assert set(answer(_row(), LLAMA_8B)) == CONTRACT_FIELDS


def test_answer_agrees_with_what_vllm_0_19_printed() -> None:
    row = _row(gpu_memory_gib=79.19, gpu_memory_utilization=0.95, max_model_len=8192)
    found = answer(row, LLAMA_8B)
    assert found["weights_gib"] == pytest.approx(14.99, abs=0.01)
    assert found["kv_cache_gib"] == pytest.approx(58.11, abs=0.05)
    assert found["kv_cache_tokens"] == pytest.approx(476016, rel=0.002)
    assert found["max_concurrency"] == pytest.approx(58.11, rel=0.002)
    assert found["starts"] is True
    assert found["failure"] is None


def test_tokens_of_a_sliding_window_model_are_those_of_one_group_before_0_22() -> None:
    row = _row(max_model_len=8192, available_kv_cache_gib=47.72)
    printed = answer(row, GEMMA_12B)
    assert printed["kv_cache_tokens"] == pytest.approx(130304, abs=32)
    assert printed["max_concurrency"] == pytest.approx(15.88, abs=0.01)
    later = answer(_row(vllm_version="0.33.0", max_model_len=8192, available_kv_cache_gib=47.72), GEMMA_12B)
    assert later["kv_cache_tokens"] == pytest.approx(15.88 * 8192, rel=0.001)


def test_a_stated_cache_asks_for_capacity_alone() -> None:
    found = answer(_row(gpu=None, available_kv_cache_gib=20, max_model_len=131072), LLAMA_8B)
    assert found["num_gpu_blocks"] == 10240
    assert found["kv_bytes_one_sequence"] == 16 * GIB
    assert found["activation_gib"] is None
    assert found["starts"] is True


def test_a_stated_cache_that_is_too_small_is_a_kv_failure_with_the_longest_length() -> None:
    found = answer(_row(available_kv_cache_gib=4, max_model_len=131072), LLAMA_8B)
    assert (found["starts"], found["failure"]) == (False, "kv")
    assert found["estimated_max_model_len"] == 32752


def test_the_exact_need_is_refused_for_the_null_block() -> None:
    exact = answer(_row(available_kv_cache_gib=16, max_model_len=131072), LLAMA_8B)
    assert exact["starts"] is False
    assert exact["estimated_max_model_len"] == 131056


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"tp": 3}, "does not divide", id="tp"),
        pytest.param({"gpu_memory_utilization": 90}, "at most 1", id="utilization"),
        pytest.param({"max_model_len": 10**6}, "above the model's 131072", id="length"),
        pytest.param({"max_num_seqs": 256, "max_num_batched_tokens": 64}, "below max_num_seqs", id="tokens"),
        pytest.param({"gpu": "NVIDIA Tesla T4", "dtype": "bfloat16"}, "no bfloat16", id="bfloat16-before-ampere"),
        pytest.param(
            {"max_num_batched_tokens": 2048, "flags": {"enable_chunked_prefill": False}, "max_model_len": 8192},
            "must reach max_model_len",
            id="whole-prompts",
        ),
    ],
)
def test_settings_that_vllm_refuses_are_invalid(fields: dict[str, Any], reason: str) -> None:
    found = answer(_row(**fields), LLAMA_8B)
    assert (found["starts"], found["failure"]) == (False, "invalid")
    assert isinstance(found["notes"], list)
    assert reason in found["notes"][0]


def test_a_gpu_of_unknown_memory_cannot_be_answered() -> None:
    with pytest.raises(RowError, match="state gpu_memory_gib"):
        answer(_row(gpu="Frobnicator 9000"), LLAMA_8B)


def test_flags_with_a_field_of_their_own_fill_it_unless_it_is_stated() -> None:
    settings = engine_settings(_row(flags={"max_num_seqs": 64, "tensor_parallel_size": 2, "block_size": 64}, tp=4))
    assert (settings.max_num_seqs, settings.tensor_parallel_size, settings.block_size) == (64, 4, 64)
    assert settings.flags == {}


def test_a_flag_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(RowError, match="max_num_seqs"):
        engine_settings(_row(flags={"max_num_seqs": "many"}))


def test_flags_are_read_from_a_command_line() -> None:
    settings = engine_settings(_row(other_flags="--enable-prefix-caching --block-size=128 --cpu-offload-gb 30"))
    assert settings.block_size == 128
    assert settings.flags == {"enable_prefix_caching": True, "cpu_offload_gb": 30}


def test_environment_variables_are_read_beside_flags() -> None:
    settings = engine_settings(_row(other_flags="VLLM_USE_FLASHINFER_SAMPLER=1 --block-size 32; NCCL_DEBUG=INFO"))
    assert (settings.block_size, settings.flags) == (32, {"VLLM_USE_FLASHINFER_SAMPLER": 1})


@pytest.mark.parametrize(
    ("stated", "dtype"),
    [("auto (resolved fp8: checkpoint ships kv scales)", "fp8"), ("fp8 (fp8_ds_mla)", "fp8"), (None, "auto")],
)
def test_kv_dtype_is_read_out_of_a_note(stated: str | None, dtype: str) -> None:
    assert engine_settings(_row(kv_cache_dtype=stated)).kv_cache_dtype == dtype


def test_a_model_named_for_embedding_runs_as_one() -> None:
    assert engine_settings(_row(model="Qwen/Qwen3-Embedding-8B")).flags == {"runner": "pooling"}


def test_v0_in_a_version_with_both_engines_is_answered_as_the_last_v0() -> None:
    assert engine_settings(_row(vllm_version="0.8.5", engine="V0")).version == "0.7.3"
    assert engine_settings(_row(vllm_version="0.8.5", engine="V1")).version == "0.8.5"


@pytest.mark.parametrize(
    ("product", "gib"),
    [
        ("NVIDIA H100 80GB HBM3", 79.18),
        ("NVIDIA A100 80GB", 79.25),
        ("NVIDIA A100 40GB", 39.49),
        ("NVIDIA L40S", 44.42),
        ("NVIDIA L4", 22.03),
        ("NVIDIA H200", 139.80),
        ("NVIDIA GH200 96GB", 94.5),
        ("Tesla V100-SXM2-32GB", 31.74),
        ("NVIDIA GeForce RTX 5080", 15.51),
        ("NVIDIA RTX 6000 Ada Generation", 47.5),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9.5),
        ("NVIDIA-A100-SXM4-40GB-MIG-3g.20gb", 19.0),
        ("NVIDIA H20", 95.1),
        ("NVIDIA H20-3e 141GB", 139.8),
        ("NVIDIA B200", 178.35),
        ("NVIDIA GB200", 178.35),
        ("AMD Instinct MI300X OAM", 191.69),
        ("NVIDIA A10G", 22.06),
        ("NVIDIA A2", 14.5),
        ("NVIDIA A30", 23.5),
        ("NVIDIA RTX A4000", 14.5),
        ("NVIDIA RTX A6000", 47.5),
        ("Quadro RTX 6000", 23.65),
        ("NVIDIA GeForce RTX 4090", 23.58),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 15.5),
        ("NVIDIA GeForce RTX 4060 Ti 16GB", 15.5),
        ("NVIDIA GeForce RTX 2080 Ti", 10.75),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 94.97),
        ("Tesla T4", 14.56),
        ("Some 24GB GPU", 23.64),
        ("24GB GPU (23.52 GiB, RTX 4090)", 23.52),
        ("RTX 5070 Ti 16GB + RTX 5090 D 32GB", 15.5),
    ],
)
def test_visible_memory_is_known_by_product(product: str, gib: float) -> None:
    devices = devices_of(_row(gpu=product), tensor=1, pipeline=1)
    assert devices is not None
    assert devices.smallest.memory_bytes / GIB == pytest.approx(gib, abs=0.01)


def test_stated_memory_wins_over_the_product() -> None:
    devices = devices_of(_row(gpu_memory_gib=78.5), tensor=1, pipeline=1)
    assert devices is not None
    assert devices.smallest.memory_bytes == int(78.5 * GIB)


def test_cards_of_two_kinds_hold_one_pipeline_stage_each() -> None:
    row = _row(gpu="RTX 5070 Ti 16GB + RTX 5090 D 32GB", pp=2, flags={"VLLM_PP_LAYER_PARTITION": "10,22"})
    devices = devices_of(row, tensor=1, pipeline=2)
    assert devices is not None
    assert [round(card.memory_bytes / GIB, 2) for card in devices.of_stages] == [15.5, 31.36]
    first, second = (answer(_row(gpu=card.product, pp=2), LLAMA_8B) for card in devices.of_stages)
    mixed = answer(row, LLAMA_8B)
    assert first["starts"] is False
    assert second["starts"] is True
    assert mixed["starts"] is True


def test_counted_cards_fill_the_ranks_in_order() -> None:
    devices = devices_of(_row(gpu="2x RTX 3090 + 2x RTX 5090", tp=2, pp=2), tensor=2, pipeline=2)
    assert devices is not None
    assert [card.product for card in devices.of_stages] == ["RTX 3090", "RTX 5090"]


def test_cards_that_fill_no_stages_are_answered_by_the_smallest() -> None:
    devices = devices_of(_row(gpu="RTX 3090 + RTX 5090", tp=2), tensor=2, pipeline=1)
    assert devices is not None
    assert devices.of_stages == ()
    assert devices.smallest.memory_bytes == int(23.58 * GIB)


def test_the_log_speaks_of_the_first_stage_where_the_last_decides() -> None:
    row = _row(vllm_version="0.19.0", pp=2, max_model_len=8192, gpu_memory_utilization=0.95)
    found = answer(row, LLAMA_8B)
    assert found["starts"] is True
    # 0.19.0 on an H100 printed 66.54 GiB and 1,075,312 tokens, which are 65.63 GiB on the stage that samples.
    assert found["kv_cache_gib"] == pytest.approx(66.54, abs=0.1)
    assert found["kv_cache_tokens"] == pytest.approx(1_075_312, rel=0.001)


def test_a_partition_of_other_layers_is_invalid() -> None:
    found = answer(_row(pp=2, flags={"VLLM_PP_LAYER_PARTITION": "16,17"}), LLAMA_8B)
    assert found["failure"] == "invalid"
    assert "holds 33 layers" in str(found["notes"])


def test_lora_is_counted_however_it_is_asked_for() -> None:
    def left(**fields: Any) -> float:
        found = answer(_row(**fields), LLAMA_8B)["kv_cache_gib"]
        assert isinstance(found, float)
        return found

    stated = left(lora={"max_loras": 1, "max_lora_rank": 16})
    assert stated < left() - 0.05
    assert left(lora=True) == stated
    assert left(flags={"enable_lora": True}) == stated
    assert left(flags={"enable_lora": True, "max_loras": 4}) < stated
    assert left(lora=False, flags={"enable_lora": True}) == left()


@pytest.mark.parametrize(("said", "tokens"), [("8192", 8192), ("8k", 8000), ("8K", 8192), (8192, 8192)])
def test_lengths_are_read_as_vllm_reads_them(said: object, tokens: int) -> None:
    assert _row(max_model_len=said).max_model_len == tokens


@pytest.mark.parametrize("flags", [{"no_enable_prefix_caching": True}, {"disable_prefix_caching": True}])
def test_negative_spellings_turn_a_setting_off(flags: dict[str, object]) -> None:
    assert _row(flags=flags).all_flags() == {"enable_prefix_caching": False}


@pytest.mark.parametrize(
    "flags",
    [
        {"compilation_config": {"cudagraph_mode": "NONE"}},
        {"compilation_config": '{"cudagraph_mode": "NONE"}'},
        {"optimization_level": 0},
        {"enforce_eager": True},
    ],
)
def test_no_graphs_are_charged_where_they_are_turned_off(flags: dict[str, object]) -> None:
    assert answer(_row(vllm_version="0.23.0", flags=flags), LLAMA_8B)["cuda_graph_gib"] == 0.0


def test_fewer_captured_sizes_take_less() -> None:
    def graphs(**flags: object) -> object:
        return answer(_row(vllm_version="0.23.0", flags=flags), LLAMA_8B)["cuda_graph_gib"]

    assert graphs() == pytest.approx(0.796, abs=0.001)
    assert graphs(compilation_config={"cudagraph_capture_sizes": [1, 2, 4]}) == pytest.approx(0.796 * 3 / 51, abs=0.001)
    assert graphs(max_cudagraph_capture_size=4) == pytest.approx(0.796 * 3 / 51, abs=0.001)


def _interval(version: str | None) -> tuple[float, list[str]]:
    found = answer(_row(vllm_version=version, max_model_len=8192), LLAMA_8B)
    assert isinstance(found["kv_cache_gib_interval"], list)
    assert isinstance(found["notes"], list)
    low, high = found["kv_cache_gib_interval"]
    return high - low, found["notes"]


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (None, "no release of vLLM is named: answered as 0.33.0"),
        ("nightly", "no release of vLLM is named: answered as 0.33.0"),
        ("0.41.0", "vLLM 0.41.0 is newer than 0.33.0"),
        ("1.2.3", "vLLM 1.2.3 is newer than 0.33.0"),
    ],
)
def test_an_unknown_version_is_answered_as_the_nearest_known_with_a_wider_interval(
    version: str | None, said: str
) -> None:
    known, nothing = _interval("0.33.0")
    unknown, notes = _interval(version)
    assert nothing == []
    assert unknown > known
    assert any(said in note for note in notes)


def test_ranges_measured_on_hopper_alone_are_less_sure_elsewhere() -> None:
    def width(gpu: str) -> float:
        found = answer(_row(gpu=gpu, gpu_memory_gib=79.18, max_num_seqs=256, max_num_batched_tokens=2048), LLAMA_8B)
        assert isinstance(found["kv_cache_gib_interval"], list)
        low, high = found["kv_cache_gib_interval"]
        return high - low

    assert width("NVIDIA A100 80GB") > 1.5 * width("NVIDIA H100 80GB HBM3")


def test_every_measured_start_is_answered() -> None:
    for start in (*starts(), *later_starts()):
        found = answer(start.row, start.facts)
        assert found["starts"] is not None, start.id
        assert start.devices is None or found["kv_cache_gib"] is not None, start.id
