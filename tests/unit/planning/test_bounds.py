"""A bound may promise too much, never too little: what the search would find must not be discarded."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
from tests.unit.planning.fleets import facts, inventory, node, spec

from vllm_operator.planning.bounds import asked_context
from vllm_operator.planning.decision import decide
from vllm_operator.planning.defaults import Capabilities, OperatorDefaults
from vllm_operator.planning.judging import fitting_of
from vllm_operator.planning.offer import offer_of
from vllm_operator.planning.outlook import Outlook
from vllm_operator.planning.plan import Verdict
from vllm_operator.planning.request import request_of
from vllm_operator.planning.sizing import question_of
from vllm_operator.planning.sorting import capacity_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.planning.capacity import ClassCapacity
    from vllm_operator.planning.request import Request
    from vllm_operator.planning.sizing import Fitting, Question
    from vllm_operator.planning.tuning import Parallelism

MODELS = (
    "Qwen/Qwen3-8B",
    "Qwen/Qwen2.5-7B-Instruct-AWQ",
    "Qwen/Qwen3-30B-A3B",
    "deepseek-ai/DeepSeek-V2-Lite",
    "google/gemma-3-12b-it",
    "openai/gpt-oss-20b",
    "meta-llama/Llama-3.3-70B-Instruct",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "BAAI/bge-m3",
)
WORKLOADS = tuple(
    {"contextLength": context, "concurrency": sequences} for context, sequences in product((4096, 8192), (1, 64, 512))
)


def requested(model: str, **sections: object) -> Request:
    return request_of(spec(model, **sections), OperatorDefaults(), Capabilities())


def fittings(question: Question, capacity: ClassCapacity) -> Iterator[tuple[Parallelism, Fitting]]:
    offer = offer_of(question, capacity)
    for shape in (*offer.shapes.without_stages, *offer.shapes.staged):
        sizes = offer.sizes(shape)
        if not sizes.problems:
            yield shape, fitting_of(question, sizes)


@pytest.mark.parametrize("card", ["L4", "H100"])
@pytest.mark.parametrize("model", MODELS)
def test_no_shape_exceeds_what_one_gpu_says_of_many(model: str, card: str) -> None:
    capacity = capacity_for(requested(model).gpus, inventory(node(card, "n", 8))).classes[0]
    for workload in WORKLOADS:
        question = question_of(requested(model, workload=workload), facts(model), None)
        offer = offer_of(question, capacity)
        single, fewest = offer.alone, offer.fewest_gpus()
        assert single is not None
        for shape, fitting in fittings(question, capacity):
            room, context = fitting.size.memory_room, asked_context(question)
            assert room.max_concurrency(context) <= max(0, single.most_sequences(shape.gpus, context))
            assert shape.gpus >= fewest or not fitting.need.fits


@pytest.mark.parametrize("model", MODELS)
def test_an_outlook_says_of_single_nodes_what_the_search_says(model: str) -> None:
    cluster = inventory(node("L4", "a", 4), node("A100-40", "b", 2), node("H100", "c", 1))
    for workload in WORKLOADS:
        request = requested(model, workload=workload, replicas=2)
        classes = capacity_for(request.gpus, cluster).classes
        decision = decide(request, facts(model), cluster)
        outlook = Outlook(question_of(request, facts(model), decision.family), classes)
        assert outlook.starts_on_one_node() == (decision.verdict is Verdict.FITS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("policy", [{}, {"autoAdjust": "Safe"}])
def test_without_the_hopeless_the_search_finds_the_same(model: str, policy: dict[str, object]) -> None:
    cluster = inventory(node("L4", "a", 4), node("A100-40", "b", 2), node("H100", "c", 1))
    for workload in WORKLOADS:
        request = requested(model, workload=workload, policy=policy, replicas=2)
        whole = decide(request, facts(model), cluster)
        pruned = decide(request, facts(model), cluster, with_hopeless=False)
        assert pruned.verdict is whole.verdict
        if whole.verdict is Verdict.FITS:
            assert pruned.best == whole.best


def test_arguments_that_may_move_weights_to_the_host_leave_no_bound() -> None:
    model = "Qwen/Qwen3-8B"
    request = requested(model, engine={"extraArgs": ["--cpu-offload-gb=10"]})
    capacity = capacity_for(request.gpus, inventory(node("L4", "n", 1))).classes[0]
    offer = offer_of(question_of(request, facts(model), None), capacity)
    assert offer.alone is None
    assert offer.fewest_gpus() == 1
