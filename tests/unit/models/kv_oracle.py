"""Cases that vLLM's own planner computed, as `tests/data/kv_oracle/README.md` describes them."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vllm_operator.models.facts import Device, EngineSettings, ModelFacts
from vllm_operator.models.parse import parse_model

FILE = Path(__file__).parents[2] / "data" / "kv_oracle" / "rows.jsonl.gz"
POOL_BYTES = 20 * 2**30
GPU_GIB = {
    "H100 80GB HBM3": 79.6475,
    "H200": 140.4014,
    "A100-SXM4-80GB": 79.2517,
    "L4": 22.4941,
    "B200": 178.3514,
}
SETTINGS = ("max_num_batched_tokens", "max_num_seqs", "dtype", "block_size", "quantization", "kv_cache_dtype")


@dataclass(frozen=True, kw_only=True)
class Case:
    model: str
    gpu: str
    tensor_parallel_size: int
    pipeline_parallel_size: int
    kv_cache_dtype: str
    max_model_len: int | None
    flags: dict[str, Any]
    expected: Any

    @property
    def device(self) -> Device:
        return Device(product="NVIDIA " + self.gpu, memory_bytes=int(GPU_GIB[self.gpu] * 2**30))

    @property
    def settings(self) -> EngineSettings:
        named = {name: value for name, value in self.flags.items() if name in SETTINGS}
        return EngineSettings(
            tensor_parallel_size=self.tensor_parallel_size,
            pipeline_parallel_size=self.pipeline_parallel_size,
            decode_context_parallel_size=self.flags.get("decode_context_parallel_size", 1),
            max_model_len=self.max_model_len,
            flags={name: value for name, value in self.flags.items() if name not in SETTINGS},
            **{"kv_cache_dtype": self.kv_cache_dtype, **named},
        )

    def __str__(self) -> str:
        sizes = f"tp{self.tensor_parallel_size} pp{self.pipeline_parallel_size}"
        return f"{self.model} {self.gpu} {sizes} {self.kv_cache_dtype} {self.max_model_len} {self.flags}"


@cache
def oracle() -> tuple[dict[str, dict[str, Any]], dict[str, list[Case]]]:
    configs: dict[str, dict[str, Any]] = {}
    cases: dict[str, list[Case]] = defaultdict(list)
    with gzip.open(FILE, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            if isinstance(row, dict):
                configs[row["model"]] = row
                continue
            model, gpu, tp, pp, kv_dtype, length, flags, expected = row
            case = Case(
                model=model,
                gpu=gpu,
                tensor_parallel_size=tp,
                pipeline_parallel_size=pp,
                kv_cache_dtype=kv_dtype,
                max_model_len=length,
                flags=flags,
                expected=expected,
            )
            cases[model].append(case)
    return configs, dict(cases)


@cache
def oracle_facts(model: str) -> ModelFacts:
    row = oracle()[0][model]
    return parse_model(row["config"], hf_quant_config=row["hf_quant_config"])
