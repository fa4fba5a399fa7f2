"""The measured starts as rows of `vllm-operator predict`, at many utilizations: what its speed is measured on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.accuracy.starts import DATA

if TYPE_CHECKING:
    from pathlib import Path


def rows_of_measured_starts(folder: Path, *, rounds: int) -> list[str]:
    """`rounds` JSON lines for each start, each at a utilization of its own; the models' configs go into `folder`."""
    configs = json.loads((DATA / "configs.json").read_text(encoding="utf-8"))
    records = [json.loads(line) for line in (DATA / "starts.jsonl").read_text(encoding="utf-8").splitlines()]
    for name, config in configs.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return [
        json.dumps({**record["given"], "config_dir": str(folder / record["config"]), "gpu_memory_utilization": share})
        for share in (0.5 + number / 100 for number in range(rounds))
        for record in records
    ]
