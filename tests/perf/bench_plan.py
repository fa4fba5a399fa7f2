"""How long a plan takes: `python -m tests.perf.bench_plan`.

CPU milliseconds of `plan()` for 13 models × 4 contexts × 4 concurrencies, in a random but repeatable order, on clusters
of 10 GPU classes. At first contact nothing is remembered of the models, as after a start of the operator.
Refused questions are those that no class holds: all suggestions are searched for, which is the most work there is.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from tests.unit.planning.fleets import CARDS, facts, inventory, node, spec

from vllm_operator.planning.decide import plan
from vllm_operator.planning.plan import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.models.facts import ModelFacts

CLASSES = 10
QUESTIONS = 300
MODELS = (
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen2.5-14B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct-AWQ",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-235B-A22B-FP8",
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.3-70B-Instruct",
    "deepseek-ai/DeepSeek-V2-Lite",
    "deepseek-ai/DeepSeek-R1",
    "google/gemma-3-12b-it",
    "openai/gpt-oss-20b",
    "BAAI/bge-m3",
)
REFUSED_MODELS = (
    "deepseek-ai/DeepSeek-R1",
    "meta-llama/Llama-3.1-405B-Instruct",
    "meta-llama/Llama-3.3-70B-Instruct",
)
REFUSED_WORKLOADS = tuple(
    {"contextLength": context, "concurrency": concurrency}
    for context in (32768, 131072)
    for concurrency in (256, 1024, 2048)
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanningTimes:
    """CPU milliseconds of one `plan()`."""

    median_ms: float
    p99_ms: float
    longest_ms: float


def cluster(nodes: int) -> Inventory:
    """Return a cluster whose nodes are of ten classes in turn."""
    cards = sorted(CARDS)
    return inventory(*(node(cards[number % CLASSES % len(cards)], f"n{number:05}", 8) for number in range(nodes)))


def planning_times(cluster: Inventory, questions: int = QUESTIONS, *, unmet: bool = False) -> PlanningTimes:
    """Measure that many questions about one cluster; `unmet`: about models of which nothing is remembered."""
    return _summary(_times(cluster, questions, _known(MODELS, unmet=unmet)))


def refused_times(cluster: Inventory, *, unmet: bool = False) -> PlanningTimes:
    """Measure the questions that nothing in the cluster holds; `unmet` as in `planning_times`.

    Raises AssertionError where one of them fits: its time would be that of another kind of question.
    """
    return _summary(_times_of_refused(cluster, _known(REFUSED_MODELS, unmet=unmet)))


def _known(models: tuple[str, ...], *, unmet: bool) -> dict[str, ModelFacts]:
    # NB: what is remembered of a model is kept by the identity of its facts.
    return {model: replace(facts(model)) if unmet else facts(model) for model in models}


def _summary(times: Iterator[float]) -> PlanningTimes:
    found = sorted(times)
    return PlanningTimes(median_ms=statistics.median(found), p99_ms=found[int(0.99 * len(found))], longest_ms=found[-1])


def _times_of_refused(cluster: Inventory, known: dict[str, ModelFacts]) -> Iterator[float]:
    for model in REFUSED_MODELS:
        for workload in REFUSED_WORKLOADS:
            asked = spec(model, workload=workload)
            begun = time.process_time()
            found = plan(asked, known[model], cluster)
            yield (time.process_time() - begun) * 1000
            assert found.verdict is Verdict.DOES_NOT_FIT, f"{model} with {workload}: {found.verdict}"


def _times(cluster: Inventory, questions: int, known: dict[str, ModelFacts]) -> Iterator[float]:
    chance = random.Random(20260101)
    for _ in range(questions):
        model = chance.choice(MODELS)
        workload = {
            "contextLength": chance.choice([4096, 8192, 16384, 32768]),
            "concurrency": chance.choice([1, 4, 8, 32]),
        }
        asked = spec(model, workload=workload)
        begun = time.process_time()
        plan(asked, known[model], cluster)
        yield (time.process_time() - begun) * 1000


def main() -> int:
    """Print the figures."""
    print_of = partial(_print, measure=planning_times)
    print_of("100 nodes, first contact", cluster(100), unmet=True)
    settled = cluster(100)
    planning_times(settled)
    print_of("100 nodes", settled)
    print_of("5,000 nodes, new snapshot", cluster(5000))
    print_of = partial(_print, measure=refused_times)
    print_of("refused, first contact", cluster(100), unmet=True)
    for nodes in (5, 100):
        settled = cluster(nodes)
        refused_times(settled)
        print_of(f"refused, {nodes} nodes", settled)
    return 0


def _print(label: str, nodes: Inventory, *, measure: Callable[..., PlanningTimes], unmet: bool = False) -> None:
    times = measure(nodes, unmet=unmet)
    figures = f"median {times.median_ms:6.2f}  p99 {times.p99_ms:6.2f}  longest {times.longest_ms:6.1f} ms"
    print(f"plan, {label:26} {figures}")


if __name__ == "__main__":
    raise SystemExit(main())
