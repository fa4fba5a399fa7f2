from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.models.kv_oracle import oracle, oracle_facts

from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.facts import Device, EngineSettings
from vllm_operator.models.grouping import LayerSpec, SpecKind, group_layers
from vllm_operator.models.kv import KvLayout, kv_layout
from vllm_operator.models.settings import resolve_settings
from vllm_operator.models.stages import Stages, stages_of
from vllm_operator.models.versions import parse_version

GIB = 2**30
H100 = Device(product="NVIDIA H100 80GB HBM3", memory_bytes=int(79.65 * GIB))
LLAMA, GEMMA = "meta-llama/Llama-3.1-8B-Instruct", "google/gemma-3-27b-it"


def layout_of(model: str, asked: EngineSettings | None = None) -> KvLayout:
    facts = oracle_facts(model)
    return kv_layout(facts, resolve_settings(facts, asked or EngineSettings(), H100))


def spec(layer: int, kind: SpecKind, page_bytes: int, *, block_size: int = 16, window: int | None = None) -> LayerSpec:
    return LayerSpec(layers=(layer,), kind=kind, block_size=block_size, page_bytes=page_bytes, window=window)


def test_one_token_of_llama_8b_takes_128_kib() -> None:
    assert layout_of(LLAMA).bytes_one_sequence(131072) == 131072 * 128 * 1024


def test_one_block_is_lost_to_the_null_block() -> None:
    layout = layout_of(LLAMA)
    exactly = layout.bytes_one_sequence(8192)
    assert not layout.capacity(exactly, 8192).fits
    assert layout.capacity(exactly, 8192).estimated_max_model_len == 8192 - 16
    assert layout.capacity(exactly + layout.bytes_per_block, 8192).fits


def test_more_ranks_than_heads_copy_heads() -> None:
    eight = layout_of(LLAMA, EngineSettings(tensor_parallel_size=8))
    sixteen = layout_of(LLAMA, EngineSettings(tensor_parallel_size=16))
    assert sixteen.bytes_per_block == eight.bytes_per_block


def test_short_groups_are_padded_to_the_widest() -> None:
    layout = layout_of(GEMMA)
    assert [group.layers for group in layout.groups] == [9, 9, 9, 9, 8, 8, 10]
    assert layout.bytes_per_block == 10 * 131072


def test_without_the_hybrid_manager_windows_keep_everything() -> None:
    layout = layout_of(GEMMA, EngineSettings(flags={"disable_hybrid_kv_cache_manager": True}))
    assert [group.kind for group in layout.groups] == ["Full"]
    assert layout.bytes_one_sequence(131072) == 62 * GIB


def test_states_cannot_do_without_the_hybrid_manager() -> None:
    asked = EngineSettings(flags={"disable_hybrid_kv_cache_manager": True})
    with pytest.raises(ModelConfigError, match="hybrid"):
        layout_of("ai21labs/AI21-Jamba-1.5-Mini", asked)


def test_context_parallelism_halves_a_sequence_and_refuses_windows() -> None:
    whole = layout_of(LLAMA, EngineSettings(tensor_parallel_size=16))
    halved = layout_of(LLAMA, EngineSettings(tensor_parallel_size=16, decode_context_parallel_size=2))
    assert whole.bytes_one_sequence(131072) == 2 * halved.bytes_one_sequence(131072)
    with pytest.raises(ModelConfigError):
        layout_of(GEMMA, EngineSettings(tensor_parallel_size=32, decode_context_parallel_size=2))


def test_an_encoder_needs_no_cache() -> None:
    capacity = layout_of("BAAI/bge-m3").capacity(GIB, 8194)
    assert (capacity.fits, capacity.num_blocks) == (True, 0)


def test_an_unknown_cache_dtype_is_named() -> None:
    with pytest.raises(ModelConfigError, match="octave_3"):
        layout_of(LLAMA, EngineSettings(kv_cache_dtype="octave_3"))


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [(32, 1, (32,)), (32, 3, (11, 11, 10)), (61, 2, (31, 30)), (30, 4, (7, 8, 8, 7)), (2, 2, (1, 1))],
)
def test_stages_take_the_rest_before_the_last(layers: int, stages: int, expected: tuple[int, ...]) -> None:
    assert Stages(count=stages).layers(layers) == expected


def test_nearly_equal_buckets_are_padded_rather_than_cut() -> None:
    full = [spec(index, SpecKind.FULL, 64) for index in range(13)]
    sliding = [spec(index, SpecKind.SLIDING, 64, window=128) for index in range(13, 25)]
    assert [group.count for group in group_layers(full + sliding, hybrid=True)] == [13, 12]


def test_layers_are_dealt_to_groups_in_turn_whatever_kind_they_are_named_with() -> None:
    full = LayerSpec(layers=(5, 11), kind=SpecKind.FULL, block_size=16, page_bytes=64)
    sliding = (
        LayerSpec(layers=(0, 2, 6), kind=SpecKind.SLIDING, block_size=16, page_bytes=64, window=128),
        LayerSpec(layers=(1, 4, 8), kind=SpecKind.SLIDING, block_size=16, page_bytes=64, window=128),
    )
    groups = group_layers([*sliding, full], hybrid=True)
    held = [sorted(layer for spec in group.specs for layer in spec.layers) for group in groups]
    assert held == [[0, 4], [1, 6], [2, 8], [5, 11]]


def test_smaller_pages_take_more_tokens_where_that_divides() -> None:
    groups = group_layers([spec(0, SpecKind.FULL, 64), spec(1, SpecKind.SLIDING, 128, window=8)], hybrid=True)
    assert {(group.specs[0].block_size, group.specs[0].page_bytes) for group in groups} == {(32, 128), (16, 128)}


def test_smaller_pages_are_padded_where_that_does_not_divide() -> None:
    groups = group_layers([spec(0, SpecKind.FULL, 96), spec(1, SpecKind.SLIDING, 128, window=8)], hybrid=True)
    assert {(group.specs[0].block_size, group.specs[0].page_bytes) for group in groups} == {(16, 128)}


@given(
    model=st.sampled_from(sorted(oracle()[1])),
    length=st.integers(1, 300_000),
    pool_gib=st.floats(0.1, 200),
)
def test_more_memory_never_holds_less(model: str, length: int, pool_gib: float) -> None:
    facts = oracle_facts(model)
    if not facts.caches or facts.kv_cache_dtype == "nvfp4":
        return
    layout = layout_of(model)
    small = layout.capacity(int(pool_gib * GIB), length)
    large = layout.capacity(int(pool_gib * 2 * GIB), length)
    assert large.num_blocks >= small.num_blocks
    assert large.max_concurrency >= small.max_concurrency
    assert large.estimated_max_model_len >= small.estimated_max_model_len
    assert small.fits <= large.fits
    assert layout.bytes_one_sequence(length + 1) >= layout.bytes_one_sequence(length)


def test_a_checkpoints_own_draft_layers_count_when_they_are_used() -> None:
    drafting = EngineSettings(speculative={"method": "mtp", "num_speculative_tokens": 1})
    plain = layout_of("deepseek-ai/DeepSeek-R1")
    assert layout_of("deepseek-ai/DeepSeek-R1", drafting).bytes_per_block == plain.bytes_per_block * 62 // 61


def test_drafted_tokens_widen_the_state_as_a_start_up_of_0_25_reported() -> None:
    """Qwen3.6-35B-A3B with MTP and 3 drafted tokens: block size 1072, 3,366,051 tokens in 74.22 GiB."""
    drafting = EngineSettings(
        speculative={"method": "mtp", "num_speculative_tokens": 3}, flags={"enable_prefix_caching": False}
    )
    layout = layout_of("Qwen/Qwen3.5-35B-A3B", drafting)
    assert {group.block_size for group in layout.groups if group.kind == "Full"} == {1072}
    assert layout.capacity(int(74.22 * GIB), 262144).tokens == pytest.approx(3_366_051, rel=0.0005)


def test_releases_before_0_7_4_give_the_rest_to_the_last_stage() -> None:
    assert stages_of(3, parse_version("0.6.6"), {}).layers(32) == (10, 10, 12)
    assert stages_of(3, parse_version("0.8.0"), {}).layers(32) == (11, 11, 10)


@pytest.mark.parametrize("stated", ["16,32", " 16 , 32", [16, 32]])
def test_a_stated_partition_is_taken(stated: object) -> None:
    stages = stages_of(2, parse_version("0.33.0"), {"VLLM_PP_LAYER_PARTITION": stated})
    assert stages.layers(48) == (16, 32)
    assert stages.of_layers(48) == (0,) * 16 + (1,) * 32
    assert stages.problem(48) is None


@pytest.mark.parametrize(
    ("stated", "layers", "said"),
    [("16,31", 48, "holds 47 layers, the model has 48"), ("16,16,16", 48, "names 3 stages, pipeline-parallel-size 2")],
)
def test_a_partition_that_does_not_add_up_is_refused(stated: str, layers: int, said: str) -> None:
    stages = stages_of(2, parse_version("0.33.0"), {"VLLM_PP_LAYER_PARTITION": stated})
    assert said in str(stages.problem(layers))


@pytest.mark.parametrize("value", ["", "all", "16,-32", None, 3.5, {"a": 1}])
def test_a_partition_that_cannot_be_read_is_left_aside(value: object) -> None:
    assert stages_of(2, parse_version("0.33.0"), {"VLLM_PP_LAYER_PARTITION": value}).layers(7) == (4, 3)


def test_the_stage_with_the_fewest_blocks_decides_for_all() -> None:
    layout = layout_of(LLAMA, EngineSettings(pipeline_parallel_size=2, flags={"VLLM_PP_LAYER_PARTITION": "8,24"}))
    assert layout.bytes_per_block_by_stage == (8 * 16 * 4096, 24 * 16 * 4096)
    available = (GIB, 2 * GIB)
    assert layout.scarcest_stage(available) == 1
    assert layout.capacity_of_stages(available, 8192).num_blocks == 2 * GIB // (24 * 16 * 4096)


def test_releases_0_14_and_0_15_ask_one_stage_for_the_layers_of_all() -> None:
    def longest(version: str) -> int:
        layout = layout_of(LLAMA, EngineSettings(version=version, pipeline_parallel_size=2))
        return layout.capacity(4 * GIB, 131072).estimated_max_model_len

    assert longest("0.13.0") == longest("0.16.0") == 2 * (longest("0.15.0") + 16) - 16
