"""How many predictions a second one core makes: `python -m tests.perf.bench_predict`.

Four figures: the model alone, as the planner calls it for known settings; with the settings resolved; and whole rows
of `vllm-operator predict`, JSON in and out, of the same settings at many utilizations and of settings that all differ.
CPU time, so that waiting does not count.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.accuracy.starts import starts
from tests.perf.measured_rows import rows_of_measured_starts, rows_that_all_differ

from vllm_operator.cli.predict import answers
from vllm_operator.models.memory import predict_memory
from vllm_operator.models.run_row import engine_settings
from vllm_operator.models.settings import resolve_settings

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 40


def main() -> int:
    """Prints the four figures."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder))


def _measure(folder: Path) -> int:
    known = [start for start in starts() if start.resolved is not None and start.devices is not None]
    triples = [(start.facts, start.resolved, start.devices.smallest) for start in known]

    def alone() -> int:
        for number in range(ROUNDS):
            for facts, resolved, device in triples:
                predict_memory(facts, replace(resolved, gpu_memory_utilization=0.5 + number / 100), device)
        return ROUNDS * len(triples)

    questions = [(start.facts, engine_settings(start.row), start.devices.smallest) for start in known]

    def resolving() -> int:
        for number in range(ROUNDS):
            for facts, settings, device in questions:
                asked = replace(settings, gpu_memory_utilization=0.5 + number / 100)
                predict_memory(facts, resolve_settings(facts, asked, device), device)
        return ROUNDS * len(questions)

    lines = rows_of_measured_starts(folder, rounds=ROUNDS)
    different = rows_that_all_differ(folder, rounds=ROUNDS)

    def rows() -> int:
        return sum(1 for found in answers(lines, folder=Path()) if json.dumps(found))

    def different_rows() -> int:
        return sum(1 for found in answers(different, folder=Path()) if json.dumps(found))

    figures = (
        ("model alone", alone),
        ("with settings", resolving),
        ("rows of predict", rows),
        ("rows that all differ", different_rows),
    )
    for name, work in figures:
        print(f"{name:20} {_rate(work):8,.0f} predictions/s")
    return 0


def _rate(work: Callable[[], int]) -> float:
    work()
    begun = time.process_time()
    done = work()
    return done / (time.process_time() - begun)


if __name__ == "__main__":
    raise SystemExit(main())
