"""Parsing a config and laying out its KV cache is cheap enough for an admission request."""

from __future__ import annotations

import json
import statistics
import time
from importlib import resources

from vllm_operator.models.facts import Device, EngineSettings
from vllm_operator.models.kv import kv_layout
from vllm_operator.models.parse import parse_model
from vllm_operator.models.settings import resolve_settings

H100 = Device(product="NVIDIA H100 80GB HBM3", memory_bytes=85_520_809_984, compute_capability="9.0")
LIMIT_SECONDS = 0.002


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
