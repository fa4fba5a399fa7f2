"""Deployments of every kind for one vLLM release: all models of the catalogue, all knobs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from tests.unit.planning.fleets import CARDS, facts, inventory, node, spec

from vllm_operator.models import catalogue
from vllm_operator.planning.decide import plan
from vllm_operator.planning.plan import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.planning.plan import Plan

SEED = 20_26_11
TRIES_PER_MODEL = 20


def generated_plans(version: str) -> Iterator[Plan]:
    """Yield renderable plans of some two thousand specs, the same ones at every run."""
    chance = random.Random(SEED)
    for model in catalogue.model_ids():
        known = facts(model)
        for _ in range(TRIES_PER_MODEL):
            cards = chance.sample(sorted(CARDS), 2)
            nodes = [node(card, f"n{number}", chance.choice([1, 4, 8])) for number, card in enumerate(cards)]
            found = plan(spec(model, **_sections(chance, version)), known, inventory(*nodes))
            if found.args and found.verdict is not Verdict.DOES_NOT_FIT:
                yield found


def _sections(chance: random.Random, version: str) -> dict[str, Any]:
    """A spec without its model, every knob sometimes set."""

    def maybe(name: str, *values: Any) -> dict[str, Any]:
        return {name: chance.choice(values)} if chance.random() < 0.3 else {}

    speculative = {"method": "ngram", "tokens": 4}
    adapter = {"name": "sql", "uri": "hf://someone/sql-adapter"}
    return {
        "workload": {
            **maybe("contextLength", 512, 2048, 8192),
            **maybe("concurrency", 1, 7, 64, 300),
            **maybe("batchingMode", "Throughput", "Latency", "Balanced"),
        },
        "engine": {
            "version": version,
            **maybe("tensorParallelSize", 1, 2, 4, 8),
            **maybe("dtype", "bfloat16", "float16"),
            **maybe("kvCacheDtype", "auto", "fp8"),
            **maybe("maxNumSeqs", 1, 64, 512),
            **maybe("maxNumBatchedTokens", 2048, 16384),
            **maybe("enforceEager", True),
            **maybe("expertParallel", True, False),
            **maybe("toolCalling", "Auto", "Off", "hermes"),
            **maybe("reasoning", "Auto", "Off", "qwen3"),
            **maybe("speculative", speculative),
            **maybe("lora", {"maxLoras": 2, "maxRank": 32}, {"adapters": [adapter]}),
            **maybe("extraArgs", ["--seed", "7"], ["--no-enable-prefix-caching"], ["--limit-mm-per-prompt.image", "2"]),
        },
        "policy": {
            **maybe("gpuMemoryUtilization", 0.5, 0.85, 0.95),
            **maybe("autoAdjust", "Safe"),
        },
    }
