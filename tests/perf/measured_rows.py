"""The measured starts as rows of `vllm-operator predict`, at many utilizations: what its speed is measured on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.accuracy.starts import DATA

if TYPE_CHECKING:
    from pathlib import Path


def rows_of_measured_starts(folder: Path, *, rounds: int) -> list[str]:
    """`rounds` JSON lines for each start, each at a utilization of its own; the models' configs go into `folder`."""
    records = _records(folder)
    shares = (0.5 + number / 100 for number in range(rounds))
    return [json.dumps({**record, "gpu_memory_utilization": share}) for share in shares for record in records]


def rows_that_all_differ(folder: Path, *, rounds: int) -> list[str]:
    """The same, and no two lines of a start agree in length, batch limits or utilization, few in parallelism."""
    records = _records(folder)
    return [
        json.dumps(
            {
                **record,
                "gpu_memory_utilization": 0.5 + number / 100,
                "max_model_len": 1024 + 257 * number,
                "max_num_seqs": 16 + 5 * number,
                "max_num_batched_tokens": 2048 + 129 * number,
                "tp": 2 ** (number % 4),
                "kv_cache_dtype": "fp8" if number % 3 == 0 else "auto",
                "enforce_eager": number % 5 == 0,
            }
        )
        for number in range(rounds)
        for record in records
    ]


def _records(folder: Path) -> list[dict[str, object]]:
    """What each start was asked, its model's config beside it in `folder`."""
    configs = json.loads((DATA / "configs.json").read_text(encoding="utf-8"))
    records = [json.loads(line) for line in (DATA / "starts.jsonl").read_text(encoding="utf-8").splitlines()]
    for name, config in configs.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return [{**record["given"], "config_dir": str(folder / record["config"])} for record in records]
