"""The documented arithmetic, with the reference values of the design and the properties that verdicts rely on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.models.catalogue import lookup
from vllm_operator.planning.memory import (
    BYTES_TO_GIB,
    GIB,
    FeasibilityReport,
    compute_feasibility,
    compute_kv_cache_memory,
    compute_max_concurrency_at_context,
    compute_max_context_at_concurrency,
    compute_overhead,
    compute_weights_memory,
)

if TYPE_CHECKING:
    from vllm_operator.models.facts import ModelFacts


@dataclass(frozen=True, kw_only=True)
class PlainModel:
    """Llama-3.1-8B's attention, from its public config.json."""

    num_layers: int = 32
    num_kv_heads: int = 8
    head_dim: int = 128
    dtype: str = "bfloat16"


LLAMA_8B = PlainModel()


def test_a_gib_is_1024_cubed() -> None:
    assert GIB == BYTES_TO_GIB == 1024**3


@pytest.mark.parametrize(
    ("dtype", "quantization", "bytes_per_parameter"),
    [
        pytest.param("fp32", None, 4, id="fp32"),
        pytest.param("fp16", None, 2, id="fp16"),
        pytest.param("bf16", None, 2, id="bf16"),
        pytest.param("bfloat16", None, 2, id="torch-name"),
        pytest.param("auto", None, 2, id="auto-is-16-bit"),
        pytest.param("bf16", "fp8", 1, id="fp8-wins-over-dtype"),
        pytest.param("bf16", "int8", 1, id="int8"),
        pytest.param("bf16", "awq", 0.55, id="awq"),
        pytest.param("bf16", "gptq", 0.55, id="gptq"),
    ],
)
def test_weights_are_parameters_times_bytes(dtype: str, quantization: str | None, bytes_per_parameter: float) -> None:
    assert compute_weights_memory(8.03, dtype, quantization) == pytest.approx(8.03e9 * bytes_per_parameter, abs=1)


def test_an_unknown_quantization_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'q5_k_m'"):
        compute_weights_memory(7, "bf16", "q5_k_m")


@pytest.mark.parametrize("context", [1, 8192, 131072])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_plain_kv_cache_is_two_times_heads_times_size_times_layers(context: int, concurrency: int) -> None:
    expected = 2 * 8 * 128 * 32 * context * concurrency * 2 * 1.15
    assert compute_kv_cache_memory(LLAMA_8B, context, concurrency) == pytest.approx(expected, abs=1)


def test_eight_sequences_of_8k_tokens_of_llama_8b_need_8_gib_before_the_factor() -> None:
    assert compute_kv_cache_memory(LLAMA_8B, 8192, 8, fragmentation_factor=1.0) == 8 * GIB


@pytest.mark.parametrize("kv_dtype", ["fp8", "fp8_e4m3", "fp8_e5m2"])
def test_an_fp8_cache_halves_the_need(kv_dtype: str) -> None:
    full = compute_kv_cache_memory(LLAMA_8B, 8192, 8)
    assert compute_kv_cache_memory(LLAMA_8B, 8192, 8, kv_dtype) == pytest.approx(full / 2, abs=1)


def test_an_unknown_kv_dtype_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'int3'"):
        compute_kv_cache_memory(LLAMA_8B, 8192, 8, "int3")


def known(model: str) -> ModelFacts:
    facts = lookup(model)
    assert facts is not None
    return facts


@pytest.mark.parametrize(
    ("model", "expected_bytes"),
    [
        # 61 layers × (512 + 64) elements × 2 bytes; the plain formula would say 25 times as much.
        pytest.param("deepseek-ai/DeepSeek-R1", 61 * 576 * 2 * 8192 * 8, id="latent-attention"),
        pytest.param("Qwen/Qwen3-8B", 2 * 8 * 128 * 36 * 2 * 8192 * 8, id="plain-attention"),
    ],
)
def test_facts_alone_decide_which_arithmetic_a_model_follows(model: str, expected_bytes: int) -> None:
    assert compute_kv_cache_memory(known(model), 8192, 8, "auto", "bfloat16", 1.0) == expected_bytes


def test_a_hybrid_pays_for_its_attention_layers_and_a_fixed_state_per_sequence() -> None:
    facts = known("Qwen/Qwen3-Next-80B-A3B-Instruct")
    one, two = (compute_kv_cache_memory(facts, length, 1, fragmentation_factor=1.0) for length in (65536, 131072))
    # 12 of its 48 layers attend, with 2 heads of 256; blocks are whole, so the state decides the remainder.
    assert two - one == pytest.approx(2 * 2 * 256 * 12 * 2 * 65536, rel=0.02)
    assert 2 * one > two


@pytest.mark.parametrize("model", ["deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-8B", "google/gemma-3-12b-it"])
def test_trade_offs_from_facts_alone_keep_to_the_need(model: str) -> None:
    facts, room = known(model), 20 * GIB
    crowd = compute_max_concurrency_at_context(room, 0, 0, facts, 8192)
    assert compute_kv_cache_memory(facts, 8192, crowd) <= room < compute_kv_cache_memory(facts, 8192, crowd + 1)
    longest = compute_max_context_at_concurrency(room, 0, 0, facts, 8)
    assert compute_kv_cache_memory(facts, longest, 8) <= room + 8 < compute_kv_cache_memory(facts, longest + 16, 8)
    assert compute_max_context_at_concurrency(room, 0, 0, facts, 8, max_model_len=100) == 100


def test_an_unknown_kv_dtype_is_refused_for_every_kind_of_attention() -> None:
    with pytest.raises(ValueError, match="int3"):
        compute_kv_cache_memory(known("deepseek-ai/DeepSeek-R1"), 8192, 8, "int3")


@pytest.mark.parametrize(
    ("vram_gib", "tp", "fixed_gb", "overhead_gib"),
    [
        pytest.param(24, 1, None, 1.0, id="24-gib-tp1"),
        pytest.param(80, 1, None, 1.6, id="80-gib-tp1"),
        pytest.param(24, 2, None, 1.25, id="24-gib-tp2"),
        pytest.param(80, 4, None, 2.35, id="80-gib-tp4"),
        pytest.param(80, 4, 2.5, 2.5, id="fixed"),
        pytest.param(80, 4, 0.0, 0.0, id="fixed-at-zero"),
    ],
)
def test_overhead_has_the_documented_values(
    vram_gib: int, tp: int, fixed_gb: float | None, overhead_gib: float
) -> None:
    assert compute_overhead(vram_gib * GIB, tp, fixed_gb) == pytest.approx(overhead_gib * GIB, abs=1)


def report(headroom_gib: float, *, kv_gib: float = 4.0, headroom_gb: float = 1.0) -> FeasibilityReport:
    allocatable_gib = 72.0
    weights_gib = allocatable_gib - kv_gib - 2.0 - headroom_gib
    return compute_feasibility(
        round(weights_gib * GIB), round(kv_gib * GIB), 2 * GIB, 80 * GIB, 0.90, headroom_gb, facts=LLAMA_8B
    )


@pytest.mark.parametrize(
    ("headroom_gib", "fits", "risk"),
    [
        pytest.param(10.0, True, "Low", id="plenty"),
        pytest.param(2.01, True, "Low", id="two-gib-is-low"),
        pytest.param(1.99, True, "Medium", id="just-below-two-gib"),
        pytest.param(0.5, False, "Medium", id="less-than-the-wanted-headroom"),
        pytest.param(-0.5, False, "High", id="short"),
    ],
)
def test_verdict_and_risk_follow_from_the_headroom(headroom_gib: float, fits: bool, risk: str) -> None:
    judged = report(headroom_gib)
    assert judged.fits is fits
    assert judged.oom_risk == risk
    assert judged.headroom_gb == pytest.approx(max(0.0, headroom_gib), abs=1e-6)


def test_the_report_states_the_sum_in_gib() -> None:
    judged = report(10.0)
    assert judged.vram_total_gb == 80
    assert judged.vram_target_alloc_gb == pytest.approx(72)
    assert judged.weights_gb + judged.kv_cache_gb + judged.overhead_gb == pytest.approx(62)


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        pytest.param(report(-3.0), "required 75.00 GiB plus 1.00 GiB headroom, available 72.00 GiB", id="does-not-fit"),
        pytest.param(report(-3.0), "shorter context or quantization", id="high"),
        pytest.param(report(1.5), "monitor", id="medium"),
        pytest.param(report(4.0, kv_gib=40), "56% of the allocatable memory", id="kv-heavy"),
    ],
)
def test_each_concern_is_a_warning_with_numbers(judged: FeasibilityReport, words: str) -> None:
    assert any(words in warning for warning in judged.warnings), judged.warnings


def test_a_comfortable_fit_has_no_warnings() -> None:
    assert report(10.0).warnings == []


def test_trade_offs_divide_what_is_left_for_the_cache() -> None:
    allocatable, weights, overhead = 72 * GIB, 15 * GIB, 2 * GIB
    sequence = compute_kv_cache_memory(LLAMA_8B, 8192, 1)
    assert compute_max_concurrency_at_context(allocatable, weights, overhead, LLAMA_8B, 8192) == 55 * GIB // sequence
    longest = compute_max_context_at_concurrency(allocatable, weights, overhead, LLAMA_8B, 8)
    assert compute_kv_cache_memory(LLAMA_8B, longest, 8) <= 55 * GIB
    assert compute_kv_cache_memory(LLAMA_8B, longest + 2, 8) > 55 * GIB


def test_trade_offs_are_zero_when_the_weights_alone_are_too_big() -> None:
    assert compute_max_concurrency_at_context(10 * GIB, 15 * GIB, GIB, LLAMA_8B, 8192) == 0
    assert compute_max_context_at_concurrency(10 * GIB, 15 * GIB, GIB, LLAMA_8B, 8) == 0


sizes = st.integers(min_value=0, max_value=200 * GIB)
lengths = st.integers(min_value=1, max_value=1 << 20)
crowds = st.integers(min_value=1, max_value=4096)


@given(weights=sizes, kv=sizes, overhead=sizes, vram=sizes, more=sizes)
def test_more_memory_never_turns_fits_into_does_not_fit(
    weights: int, kv: int, overhead: int, vram: int, more: int
) -> None:
    before = compute_feasibility(weights, kv, overhead, vram)
    after = compute_feasibility(weights, kv, overhead, vram + more)
    assert after.fits >= before.fits
    assert after.headroom_gb >= before.headroom_gb >= 0


@given(context=lengths, concurrency=crowds, further_context=lengths, further_concurrency=crowds)
def test_more_context_or_concurrency_never_lowers_the_need(
    context: int, concurrency: int, further_context: int, further_concurrency: int
) -> None:
    need = compute_kv_cache_memory(LLAMA_8B, context, concurrency)
    assert compute_kv_cache_memory(LLAMA_8B, context + further_context, concurrency) >= need
    assert compute_kv_cache_memory(LLAMA_8B, context, concurrency + further_concurrency) >= need


@given(vram=sizes, more=sizes, tp=st.integers(min_value=1, max_value=16))
def test_overhead_grows_with_memory_and_with_the_group(vram: int, more: int, tp: int) -> None:
    overhead = compute_overhead(vram, tp)
    assert overhead >= GIB
    assert compute_overhead(vram + more, tp) >= overhead
    assert compute_overhead(vram, tp + 1) > overhead


@given(available=sizes, context=lengths, concurrency=crowds)
def test_what_the_trade_offs_promise_does_fit(available: int, context: int, concurrency: int) -> None:
    crowd = compute_max_concurrency_at_context(available, 0, 0, LLAMA_8B, context)
    assert compute_kv_cache_memory(LLAMA_8B, context, crowd) <= available + crowd
    longest = compute_max_context_at_concurrency(available, 0, 0, LLAMA_8B, concurrency)
    assert compute_kv_cache_memory(LLAMA_8B, longest, concurrency) <= available + 1
