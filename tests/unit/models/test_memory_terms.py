"""The terms of the memory model, against worked numbers and figures that vLLM printed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vllm_operator.models.memory.constants import TABLE, constants_for
from vllm_operator.models.memory.encoders import EncoderLoad, EncoderWidths
from vllm_operator.models.memory.links import link_of
from vllm_operator.models.memory.terms import (
    Batch,
    Link,
    Widths,
    activation_bytes,
    captured_sizes,
    encoder_output_bytes,
    encoder_peak_bytes,
    experts_workspace_bytes,
    forward_peak_bytes,
    graph_bytes,
    link_gib,
    lora_bytes,
    non_torch_bytes,
)
from vllm_operator.models.versions import parse_version

GIB = 1024**3
LLAMA_8B = Widths(
    hidden=4096,
    feed_forward=3 * 14336,
    attention=2 * (32 + 8) * 128,
    vocabulary=128256,
    experts_per_token=1,
    experts=0,
    expert_intermediate=0,
    mla_heads=0,
    mla_head_width=0,
    layers=32,
    element_bytes=2,
    encoder=None,
)
QWEN_7B = replace(LLAMA_8B, hidden=3584, feed_forward=3 * 18944, vocabulary=152064, layers=28)
LLAMA_70B_TP2 = replace(LLAMA_8B, hidden=8192, feed_forward=3 * 28672 // 2, layers=80)
GRANITE_8B = replace(LLAMA_8B, feed_forward=3 * 12800, vocabulary=49155, layers=40)
MIXTRAL_TP2 = replace(LLAMA_8B, feed_forward=0, vocabulary=32000, experts_per_token=2, expert_intermediate=7168)
H100_DEFAULTS = Batch(
    tokens=8192,
    expert_tokens=8192,
    sequences=1024,
    pipelined=False,
    encoder=EncoderLoad(encoded=16384, kept=16384),
    flash_attention=True,
    samples=True,
)
SMALL_DEFAULTS = replace(H100_DEFAULTS, tokens=2048, expert_tokens=2048, sequences=256)


@pytest.mark.parametrize(
    ("version", "widths", "batch", "printed_gib"),
    [
        pytest.param("0.19.0", LLAMA_8B, H100_DEFAULTS, 1.89, id="sampler-of-128k-vocabulary"),
        pytest.param("0.19.0", QWEN_7B, H100_DEFAULTS, 2.21, id="sampler-of-152k-vocabulary"),
        pytest.param("0.19.0", LLAMA_70B_TP2, H100_DEFAULTS, 1.96, id="tp-does-not-divide-the-logits"),
        pytest.param("0.19.0", GRANITE_8B, H100_DEFAULTS, 0.85, id="feed-forward-above-a-small-vocabulary"),
        pytest.param("0.19.0", MIXTRAL_TP2, H100_DEFAULTS, 1.21, id="experts-scratch-stays"),
        pytest.param("0.19.0", replace(LLAMA_8B, element_bytes=4), H100_DEFAULTS, 2.21, id="float32-logits"),
        pytest.param("0.11.0", LLAMA_8B, H100_DEFAULTS, 4.76, id="sampler-that-sorts"),
        pytest.param("0.10.2", replace(QWEN_7B, vocabulary=151936, hidden=4096), SMALL_DEFAULTS, 1.40, id="small-card"),
        pytest.param(
            "0.6.4",
            LLAMA_8B,
            replace(SMALL_DEFAULTS, tokens=29000, expert_tokens=29000),
            2.99,
            id="whole-prompt",
        ),
        pytest.param(
            "0.7.3",
            QWEN_7B,
            replace(SMALL_DEFAULTS, tokens=32768, expert_tokens=32768, flash_attention=False),
            4.35,
            id="whole-prompt-without-flash-attention",
        ),
        pytest.param("0.13.0", replace(LLAMA_8B, vocabulary=262144, hidden=1152), SMALL_DEFAULTS, 2.40, id="0.13"),
    ],
)
def test_activation_peak_is_what_the_log_printed(
    version: str, widths: Widths, batch: Batch, printed_gib: float
) -> None:
    constants = constants_for(parse_version(version))
    assert activation_bytes(widths, batch, constants) / GIB == pytest.approx(printed_gib, abs=0.05)


def test_a_pooling_model_pays_for_the_forward_pass_alone() -> None:
    constants = constants_for(parse_version("0.12.0"))
    pooling = replace(H100_DEFAULTS, samples=False)
    assert activation_bytes(LLAMA_8B, pooling, constants) == forward_peak_bytes(LLAMA_8B, pooling, constants)


def test_mixtral_scratch_is_the_worked_number() -> None:
    constants = constants_for(parse_version("0.19.0"))
    scratch = experts_workspace_bytes(MIXTRAL_TP2, H100_DEFAULTS, constants)
    assert scratch == 8192 * 2 * (14336 + 7168) * 2


def test_a_long_video_is_the_worked_number() -> None:
    qwen = replace(QWEN_7B, encoder=EncoderWidths(live=4 * (3 * 3420 + 4 * 1280 + 1176), output=3584))
    video = replace(SMALL_DEFAULTS, encoder=EncoderLoad(encoded=114688, kept=114688))
    taken = encoder_peak_bytes(qwen, video) + encoder_output_bytes(qwen, video)
    # 0.23.0 on an A100 80GB: 0.22 of 79.25 GiB less 15.67 of weights, 0.53 of graphs and -14.28 of KV memory.
    assert taken / GIB == pytest.approx(15.2, rel=0.03)


def test_an_encoder_that_feeds_deep_layers_hands_over_more() -> None:
    plain = replace(QWEN_7B, encoder=EncoderWidths(live=1, output=4096))
    deep = replace(QWEN_7B, encoder=EncoderWidths(live=1, output=4 * 4096))
    assert encoder_output_bytes(deep, H100_DEFAULTS) == 16384 * 4 * 4096 * 2
    assert encoder_output_bytes(plain, H100_DEFAULTS) == pytest.approx(0.15 * GIB)


def test_lora_slots_are_the_worked_number() -> None:
    assert lora_bytes(LLAMA_8B, adapters=4, rank=32, on_experts=True) == 4 * 32 * 2 * 32 * (7 * 4096 + 10240 + 43008)


def test_every_expert_has_lora_slots_of_its_own() -> None:
    qwen3 = replace(LLAMA_8B, hidden=2048, experts=128, expert_intermediate=768, layers=48)
    without = lora_bytes(qwen3, adapters=1, rank=16, on_experts=False)
    added = lora_bytes(qwen3, adapters=1, rank=16, on_experts=True) - without
    assert added / GIB == pytest.approx(1.55, abs=0.01)


@pytest.mark.parametrize(("largest", "sizes"), [(512, 51), (32, 7), (128, 19), (1, 1), (2, 2), (4, 3)])
def test_capture_sizes_are_counted_as_vllm_lists_them(largest: int, sizes: int) -> None:
    assert captured_sizes(largest) == sizes


@pytest.mark.parametrize(("layers", "printed_gib"), [(8, 0.51), (16, 0.65), (32, 0.91), (40, 1.07), (80, 1.66)])
def test_graphs_grow_with_layers(layers: int, printed_gib: float) -> None:
    graphs = graph_bytes(replace(LLAMA_8B, layers=layers), sizes=51) / GIB
    assert graphs == pytest.approx(printed_gib, rel=0.2)


@pytest.mark.parametrize(
    ("version", "tensor", "pipeline", "link", "printed_gib"),
    [
        pytest.param("0.19.0", 1, 1, Link.FABRIC, 0.25, id="one-gpu"),
        pytest.param("0.19.0", 2, 1, Link.FABRIC, 2.07, id="pair-on-nvlink"),
        pytest.param("0.19.0", 4, 1, Link.FABRIC, 2.13, id="four-on-nvlink"),
        pytest.param("0.19.0", 1, 2, Link.FABRIC, 0.07, id="pipeline"),
        pytest.param("0.10.2", 8, 1, Link.BUS, 0.21, id="eight-on-pcie"),
        pytest.param("0.11.0", 1, 1, Link.FABRIC, 0.13, id="before-0.18"),
        pytest.param("0.27.0", 4, 1, Link.BUS, 1.70, id="four-on-pcie-lately"),
    ],
)
def test_non_torch_memory_is_what_the_log_printed(
    version: str, tensor: int, pipeline: int, link: Link, printed_gib: float
) -> None:
    constants = constants_for(parse_version(version))
    size = non_torch_bytes(constants, ranks=tensor, pipeline_parallel=pipeline, link=link)
    assert size / GIB == pytest.approx(printed_gib, abs=0.06)


@pytest.mark.parametrize(
    ("product", "link"),
    [
        ("NVIDIA H100 80GB HBM3", Link.FABRIC),
        ("NVIDIA H100 NVL", Link.BUS),
        ("NVIDIA A100-SXM4-80GB", Link.SWITCH),
        ("NVIDIA A100-PCIE-40GB", Link.BUS),
        ("NVIDIA L40S", Link.BUS),
        (None, Link.BUS),
    ],
)
def test_the_link_is_told_by_the_name(product: str | None, link: Link) -> None:
    assert link_of(product) is link


def test_four_a100_on_a_switch_take_half_of_what_the_fabric_takes_and_span_both() -> None:
    constants = constants_for(parse_version("0.19.0"))
    pair, _ = link_gib(constants, ranks=2, link=Link.SWITCH)
    four, doubt = link_gib(constants, ranks=4, link=Link.SWITCH)
    assert pair == constants.bus_gib
    assert four - doubt == pytest.approx(constants.bus_gib)
    assert four + doubt == pytest.approx(constants.fabric_quad_gib)


def test_constants_cover_every_version_in_order() -> None:
    begins = [row.since for row in TABLE]
    assert begins == sorted(begins)
    assert begins[0] == (0, 0, 0)
    assert constants_for(parse_version("0.20.5")).since == (0, 18, 0)
    assert constants_for(parse_version("7.1")) is TABLE[-1]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: ".".join(map(str, row.since)))
def test_every_row_of_constants_names_its_source(row: object) -> None:
    assert getattr(row, "source", "")
    assert getattr(row, "residual_gib", 0.0) > 0
