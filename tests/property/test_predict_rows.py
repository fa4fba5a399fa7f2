"""`vllm-operator predict` on measured rows whose values were exchanged or lost: always one answer, by its id."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from vllm_operator.cli.predict import answers

MEASURED = Path(__file__).parents[1] / "data" / "measured"
ROWS = 400
WHOLE: tuple[Any, ...] = (1, 3, 7, 64, 4096, 10**6, 2**62, None, -1, "x")
EXCHANGED: dict[str, tuple[Any, ...]] = {
    "vllm_version": ("", "nightly", "v1.2.3", "0.99.9", "0.4.0", "0.22.1", "0.30.0", "99999999999.1", None, 0.19),
    "gpu": ("NVIDIA RTX 9090 99GB", "quantum", "", "2x NVIDIA L4 + 2x NVIDIA T4", "1g.10gb", "AMD MI300X", None, 5),
    "gpu_memory_gib": (1e-9, 24, 4096, None, "24"),
    "gpu_memory_utilization": (0, 0.01, 1, 1.5, -1, 1e300, None),
    "tp": WHOLE,
    "pp": WHOLE,
    "dp": WHOLE,
    "max_model_len": (*WHOLE, "128k", "1.5M"),
    "max_num_seqs": WHOLE,
    "max_num_batched_tokens": WHOLE,
    "block_size": WHOLE,
    "decode_context_parallel_size": WHOLE,
    "dtype": ("auto", "half", "float32", "int3", ""),
    "quantization": ("fp8", "awq", "bitsandbytes", "mxfp4", "unheard-of", ""),
    "kv_cache_dtype": ("auto", "fp8", "fp8_e5m2", "nvfp4", "unheard-of", ""),
    "speculative": ("mtp", "ngram", {"method": "eagle", "model": 5}, {"num_speculative_tokens": "x"}, {"method": None}),
    "lora": (True, {}, {"max_loras": "x"}, {"max_lora_rank": 10**9}),
    "flags": (
        {"compilation_config": "{"},
        {"compilation_config": {"cudagraph_capture_sizes": ["a"]}},
        {"max_cudagraph_capture_size": -5},
        {"tensor_parallel_size": 2, "max_model_len": "-1"},
        {"num_gpu_blocks_override": 10**20},
        {"kv_cache_memory_bytes": "x"},
        {"limit_mm_per_prompt": {"image": "x", "video": None}},
        {"hf_overrides": "x"},
        {"runner": 5},
        {"VLLM_PP_LAYER_PARTITION": "1,2,x"},
    ),
    "other_flags": ("'unterminated", "--tensor-parallel-size=x", "--max-model-len 8k", {"x": 1}, "VLLM_X=1 --foo"),
    "available_kv_cache_gib": (1e-6, 1, 65536),
    "checkpoint_bytes": (1, 10**15),
    "engine": ("V0", "unheard-of"),
}
FIELDS = tuple(EXCHANGED)
CONFIG_VALUES: tuple[Any, ...] = (None, "", 0, -1, 1e308, 2**63, True, [], {}, "x", {"a": 1}, [1, 2])


def _rows(seed: int) -> list[str]:
    chance = random.Random(seed)
    configs = json.loads((MEASURED / "configs.json").read_text(encoding="utf-8"))
    records = [json.loads(line) for line in (MEASURED / "starts.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = []
    for number in range(ROWS):
        record = chance.choice(records)
        config = dict(configs[record["config"]])
        if chance.random() < 0.4:
            config[chance.choice(list(config))] = chance.choice(CONFIG_VALUES)
        if chance.random() < 0.2:
            config.pop(chance.choice(list(config)))
        row = {**record["given"], "id": number, "config": config}
        for name in chance.sample(FIELDS, chance.randint(1, 4)):
            row[name] = chance.choice(EXCHANGED[name])
        rows.append(json.dumps(row))
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_every_row_has_one_answer_whatever_it_holds(seed: int) -> None:
    found = list(answers(_rows(seed), folder=MEASURED))
    assert [answer["id"] for answer in found] == list(range(ROWS))
    assert all("error" in answer or answer["starts"] is not None for answer in found)
    assert sum("error" not in answer for answer in found) > ROWS / 4


@pytest.mark.parametrize("seed", range(3))
def test_every_figure_is_finite_and_inside_its_interval(seed: int) -> None:
    for answer in answers(_rows(seed), folder=MEASURED):
        json.dumps(answer, allow_nan=False)
        kv, interval = answer.get("kv_cache_gib"), answer.get("kv_cache_gib_interval")
        if isinstance(kv, float) and isinstance(interval, list):
            low, high = interval
            assert 0 <= low <= kv <= high < math.inf
