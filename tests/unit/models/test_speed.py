"""Parsing, laying out and predicting are cheap enough for an admission request and for files of thousands of rows.

CPU time throughout: other work on the machine does not count.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.perf.measured_rows import rows_of_measured_starts, rows_that_all_differ

from vllm_operator.cli.predict import answers
from vllm_operator.models.facts import Device, EngineSettings
from vllm_operator.models.kv import kv_layout
from vllm_operator.models.parse import parse_model
from vllm_operator.models.settings import resolve_settings

if TYPE_CHECKING:
    from collections.abc import Callable

H100 = Device(product="NVIDIA H100 80GB HBM3", memory_bytes=85_520_809_984, compute_capability="9.0")
LIMIT_SECONDS = 0.002
FLOOR_PER_SECOND = 3000
START_SECONDS = 0.5


def test_parsing_and_laying_out_a_model_takes_at_most_two_milliseconds() -> None:
    text = resources.files("vllm_operator.models").joinpath("catalogue.json").read_text(encoding="utf-8")
    configs = [entry["config"] for entry in json.loads(text).values()]
    seconds = []
    for config in configs:
        started = time.process_time()
        facts = parse_model(config)
        kv_layout(facts, resolve_settings(facts, EngineSettings(), H100)).capacity(20 * 1024**3, facts.max_model_len)
        seconds.append(time.process_time() - started)

    assert len(configs) > 50
    assert statistics.median(seconds) <= LIMIT_SECONDS


@pytest.mark.parametrize("rows", [rows_of_measured_starts, rows_that_all_differ])
def test_a_core_predicts_thousands_of_starts_a_second(rows: Callable[..., list[str]], tmp_path: Path) -> None:
    """`make bench` prints the rates of a quiet machine; this holds a floor on a busy one."""
    lines = rows(tmp_path, rounds=20)
    answered = sum("error" not in found for found in answers(lines, folder=Path()))
    begun = time.process_time()
    again = sum("error" not in found for found in answers(lines, folder=Path()))
    rate = again / (time.process_time() - begun)

    assert answered == again == len(lines)
    assert rate >= FLOOR_PER_SECOND


def test_predict_starts_in_half_a_second(tmp_path: Path) -> None:
    runs = tmp_path / "runs.jsonl"
    runs.write_text('{"id": 1, "model": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "NVIDIA L4"}\n', encoding="utf-8")
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "vllm_operator", "predict", str(runs)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert json.loads(done.stdout)["weights_gib"] > 14

    assert min(seconds) < START_SECONDS
