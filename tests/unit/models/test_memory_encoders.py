"""What a profile run feeds a model's encoder, against the budgets that start-up logs print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vllm_operator.models.facts import Device, EngineSettings
from vllm_operator.models.memory import predict_memory
from vllm_operator.models.memory.encoders import encoder_load, encoder_widths, media_limits, takes_any_size
from vllm_operator.models.parse import parse_model
from vllm_operator.models.settings import resolve_settings

GIB = 1024**3
MEASURED = Path(__file__).parents[2] / "data" / "measured"
CONFIGS: dict[str, Any] = {
    **json.loads((MEASURED / "configs.json").read_text(encoding="utf-8")),
    **json.loads((MEASURED / "later_configs.json").read_text(encoding="utf-8")),
}
QWEN_2_5_VL = parse_model(CONFIGS["Qwen__Qwen2.5-VL-7B-Instruct"])
QWEN_3_VL = parse_model(CONFIGS["Qwen__Qwen3-VL-30B-A3B-Instruct"])
GEMMA_3 = parse_model(CONFIGS["google__gemma-3-12b-it"])
LLAMA = parse_model(CONFIGS["meta-llama__Llama-3.1-8B-Instruct"])
A100 = Device(product="NVIDIA A100 80GB", memory_bytes=int(79.25 * GIB))
RTX_3090 = Device(product="NVIDIA GeForce RTX 3090", memory_bytes=int(23.58 * GIB))


@pytest.mark.parametrize(
    ("version", "length", "printed"),
    [("0.8.2", 128000, 98304), ("0.23.0", 128000, 114688), ("0.10.2", 32768, 32768), ("0.9.1", 32768, 16384)],
)
def test_the_dummy_video_of_qwen_vl_is_as_long_as_logs_say(version: str, length: int, printed: int) -> None:
    resolved = resolve_settings(QWEN_2_5_VL, EngineSettings(version=version, max_model_len=length), A100)
    assert encoder_load(QWEN_2_5_VL, resolved).encoded == printed


def test_without_video_the_largest_image_is_encoded_whatever_the_length() -> None:
    asked = EngineSettings(version="0.23.0", max_model_len=4096, flags={"limit_mm_per_prompt": {"video": 0}})
    assert encoder_load(QWEN_2_5_VL, resolve_settings(QWEN_2_5_VL, asked, A100)).encoded == 16384


def test_qwen3_vl_kept_a_whole_videos_placeholders_in_0_11() -> None:
    asked = EngineSettings(version="0.11.0", max_model_len=65536, tensor_parallel_size=4)
    prediction = predict_memory(QWEN_3_VL, resolve_settings(QWEN_3_VL, asked, RTX_3090), RTX_3090)
    # Four RTX 3090 left 2.31 GiB of 21.22, 14.77 taken by weights.
    assert prediction.kv_cache_bytes / GIB == pytest.approx(2.31, abs=0.3)
    later = EngineSettings(version="0.13.0", max_model_len=65536, tensor_parallel_size=4)
    assert predict_memory(QWEN_3_VL, resolve_settings(QWEN_3_VL, later, RTX_3090), RTX_3090).kv_cache_bytes > 4 * GIB


def test_fixed_sizes_fill_the_batch() -> None:
    many = resolve_settings(GEMMA_3, EngineSettings(version="0.19.0", max_num_batched_tokens=8192), A100)
    one = resolve_settings(GEMMA_3, EngineSettings(version="0.9.2", max_num_seqs=1, max_num_batched_tokens=8192), A100)
    assert encoder_load(GEMMA_3, many).encoded == 32 * 256
    assert encoder_load(GEMMA_3, one).encoded == 256
    widths = encoder_widths(GEMMA_3, many)
    assert widths is not None
    assert widths.live == 16 * (2 * 4304 + 4 * 1152 + 3 * 14 * 14)
    assert not takes_any_size(GEMMA_3)


def test_ranks_divide_the_encoders_feed_forward_unless_it_runs_whole() -> None:
    def live(**asked: Any) -> int:
        widths = encoder_widths(QWEN_2_5_VL, resolve_settings(QWEN_2_5_VL, EngineSettings(**asked), A100))
        assert widths is not None
        return widths.live

    whole = live(tensor_parallel_size=4, flags={"mm_encoder_tp_mode": "data"})
    assert whole == live()
    assert whole - live(tensor_parallel_size=4) == 4 * (3 * 3420 - 3 * 3420 // 4)


@pytest.mark.parametrize(
    "flags",
    [
        {"language_model_only": True},
        {"skip_mm_profiling": True},
        {"limit_mm_per_prompt": {"image": 0, "video": 0}},
        {"limit_mm_per_prompt": '{"image": 0, "video": 0}'},
        {"limit_mm_per_prompt": "image=0,video=0"},
        {"limit_mm_per_prompt.image": 0, "limit_mm_per_prompt.video": 0},
        {"limit_mm_per_prompt": {"image": {"count": 0}, "video": {"count": 0}}},
    ],
)
def test_nothing_is_encoded_where_no_media_are_let_in(flags: dict[str, object]) -> None:
    resolved = resolve_settings(QWEN_2_5_VL, EngineSettings(flags=flags), A100)
    assert encoder_widths(QWEN_2_5_VL, resolved) is None


def test_text_models_have_no_encoder() -> None:
    assert encoder_widths(LLAMA, resolve_settings(LLAMA, EngineSettings(), A100)) is None


@pytest.mark.parametrize("value", [None, True, "many", "{", [1], {"image": None}, {"image": True}])
def test_limits_that_cannot_be_read_are_left_aside(value: object) -> None:
    assert media_limits({"limit_mm_per_prompt": value}) == {}
