"""Deployments of every kind for one vLLM release: all models of the catalogue, all knobs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from tests.unit.planning.fleets import CARDS, facts, inventory, node, spec

from vllm_operator.models import catalogue
from vllm_operator.planning.decide import plan
from vllm_operator.planning.defaults import Capabilities
from vllm_operator.planning.plan import Verdict
from vllm_operator.render.budgets import budgets
from vllm_operator.render.groups import LEADER, WORKER, rank_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.planning.plan import Plan

SEED = 20_26_11
TRIES_PER_MODEL = 20
SHARE_OVER_NODES = 0.25
"""Of the tries, those on nodes of one card that may share a replica."""


def generated_command_lines(version: str) -> Iterator[tuple[str, ...]]:
    """Yield the command lines of all processes of the generated plans, as the kubelet starts them."""
    for found in generated_plans(version):
        if found.placement is None or found.placement.nodes_per_replica == 1:
            yield found.args
            continue
        times = budgets(found.checkpoint_bytes, from_hub=True)
        for role, index in ((LEADER, "0"), (WORKER, "1")):
            ranks = rank_arguments(role, version, times)
            yield (
                *found.args,
                *(_FILLED_IN.get(token, token).replace("$(LWS_WORKER_INDEX)", index) for token in ranks),
            )


_FILLED_IN = {"$(LWS_LEADER_ADDRESS)": "model-0.model.default"}


def generated_plans(version: str) -> Iterator[Plan]:
    """Yield renderable plans of some two thousand specs, the same ones at every run."""
    chance = random.Random(SEED)
    for model in catalogue.model_ids():
        known = facts(model)
        for _ in range(TRIES_PER_MODEL):
            found = plan(
                spec(model, **_sections(chance, version)),
                known,
                _cluster(chance),
                capabilities=_WITH_LEADER_WORKER_SETS,
            )
            if found.args and found.verdict is not Verdict.DOES_NOT_FIT:
                yield found


_WITH_LEADER_WORKER_SETS = Capabilities(leader_worker_sets=True)


def _cluster(chance: random.Random) -> Inventory:
    if chance.random() < SHARE_OVER_NODES:
        card, gpus = chance.choice(sorted(CARDS)), chance.choice([1, 2, 8])
        return inventory(*(node(card, f"n{number}", gpus) for number in range(chance.randint(2, 4))))
    cards = chance.sample(sorted(CARDS), 2)
    return inventory(*(node(card, f"n{number}", chance.choice([1, 4, 8])) for number, card in enumerate(cards)))


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
