"""What several pods report becomes one set of figures, held against the prediction of the plan that they run."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.planning.fleets import LLAMA_8B, facts, inventory, node, spec

from vllm_operator.api.conditions import CAPACITY_BELOW_WORKLOAD, ESTIMATE_OFF, OBSERVATION_IGNORED
from vllm_operator.models.engine_report import EngineReport
from vllm_operator.planning.decide import plan
from vllm_operator.planning.observing import Prediction, Reading, findings_of, observed_of, prediction_of

PLAN = plan(
    spec(LLAMA_8B, workload={"contextLength": 8192, "concurrency": 4}),
    facts(LLAMA_8B),
    inventory(node("H100", "h100-0", 1)),
)
PREDICTED = Prediction(
    plan_hash=PLAN.hash, kv_cache_tokens=100_000, kv_cache_bytes=10**10, max_model_len=8192, uniform=True
)


def report(tokens: int | None = 100_000, concurrency: float | None = 12.0, blocks: int = 6250) -> EngineReport:
    return EngineReport(
        num_gpu_blocks=blocks,
        block_size=16,
        kv_cache_tokens=tokens,
        max_concurrency=concurrency,
        gpu_memory_utilization=0.9,
    )


def reading(pod: str = "model-a", *reports: EngineReport, plan_hash: str = PLAN.hash, problem: str = "") -> Reading:
    return Reading(pod=pod, plan_hash=plan_hash, reports=reports, problem=problem)


def observed(*readings: Reading, previous: Any = None, prediction: Prediction | None = PREDICTED) -> Any:
    return observed_of(readings, previous, prediction)


def test_the_figures_are_the_servers_own() -> None:
    found = observed(reading("model-a", report(95_000, 11.6)))
    assert (found.kv_cache_tokens, found.max_concurrency, found.replicas) == (95_000, 11.6, 1)
    assert found.gpu_memory_utilization == 0.9
    assert found.predicted_kv_cache_tokens == 100_000
    assert found.estimate_error_percent == 5.26


def test_of_several_replicas_the_poorest_counts_and_the_most_is_told() -> None:
    found = observed(
        *(reading(f"model-{tokens}", report(tokens, tokens / 8192)) for tokens in (98_000, 90_000, 99_000))
    )
    assert (found.kv_cache_tokens, found.most_kv_cache_tokens, found.replicas) == (90_000, 99_000, 3)
    assert found.max_concurrency == 10.99


def test_the_engines_of_one_replica_hold_their_sequences_together() -> None:
    found = observed(reading("model-a", report(50_000, 6.1), report(50_000, 6.2)))
    assert (found.kv_cache_tokens, found.max_concurrency) == (50_000, 12.3)


def test_a_release_that_states_blocks_only_is_compared_where_the_cache_is_uniform() -> None:
    older = report(None, None, blocks=6000)
    found = observed(reading("model-a", older))
    assert (found.kv_cache_tokens, found.max_concurrency) == (96_000, 11.72)
    window = Prediction(
        plan_hash=PLAN.hash, kv_cache_tokens=100_000, kv_cache_bytes=10**10, max_model_len=8192, uniform=False
    )
    unknown = observed(reading("model-a", older), prediction=window)
    assert (unknown.kv_cache_tokens, unknown.max_concurrency, unknown.estimate_error_percent) == (None, None, None)
    assert unknown.replicas == 1


@pytest.mark.parametrize(
    ("model", "uniform"),
    [(LLAMA_8B, True), ("google/gemma-3-12b-it", False), ("openai/gpt-oss-20b", False)],
)
def test_a_cache_is_uniform_where_every_layer_keeps_the_same(model: str, uniform: bool) -> None:
    known = facts(model)
    found = prediction_of(plan(spec(model), known, inventory(node("H100", "h100-0", 1))), known)
    assert found is not None
    assert found.uniform is uniform


def test_nothing_read_leaves_what_was_said() -> None:
    before = observed(reading("model-a", report()))
    assert observed(previous=before) is before
    assert observed() is None


def test_pods_that_keep_an_earlier_plan_keep_its_prediction() -> None:
    before = observed(reading("model-a", report(95_000)))
    replanned = Prediction(
        plan_hash="newer", kv_cache_tokens=70_000, kv_cache_bytes=10**10, max_model_len=1, uniform=True
    )
    assert observed(reading("model-a", report(95_000)), previous=before, prediction=replanned) == before


def test_a_plan_that_was_never_predicted_here_has_no_error() -> None:
    found = observed(reading("model-a", report(95_000), plan_hash="unknown"))
    assert found.kv_cache_tokens == 95_000
    assert (found.predicted_kv_cache_tokens, found.estimate_error_percent) == (None, None)


def test_while_two_plans_run_the_one_with_more_replicas_is_shown() -> None:
    old = [reading(f"old-{number}", report(50_000), plan_hash="old") for number in range(2)]
    new = [reading(f"new-{number}", report(90_000)) for number in range(3)]
    assert observed(*old, *new).kv_cache_tokens == 90_000
    assert observed(*old, *new[:1]).kv_cache_tokens == 50_000


def test_a_report_that_is_not_used_is_said_beside_those_that_are() -> None:
    found = observed(reading("model-a", report(95_000)), reading("model-b", problem="Absurd: zero"))
    assert (found.replicas, found.kv_cache_tokens) == (1, 95_000)
    assert found.problem == "pod model-b: Absurd: zero"
    alone = observed(reading("model-b", problem="Absurd: zero"))
    assert (alone.replicas, alone.kv_cache_tokens, alone.problem) == (0, None, "pod model-b: Absurd: zero")


def test_what_was_read_well_stays_when_the_pod_answers_nonsense_later() -> None:
    before = observed(reading("model-a", report(95_000)))
    found = observed(reading("model-a", problem="Malformed: x"), previous=before)
    assert found.kv_cache_tokens == 95_000
    assert found.problem == "pod model-a: Malformed: x"


def reasons(found: Any) -> list[str]:
    return [one.reason for one in findings_of(found, PLAN)]


@pytest.mark.parametrize(
    ("tokens", "told"),
    [(100_000, []), (95_300, []), (95_000, [ESTIMATE_OFF]), (105_000, []), (106_000, [ESTIMATE_OFF])],
)
def test_an_error_beyond_five_per_cent_is_told(tokens: int, told: list[str]) -> None:
    assert reasons(observed(reading("model-a", report(tokens)))) == told


def test_less_room_than_declared_is_told_with_what_would_hold() -> None:
    found = observed(reading("model-a", report(100_000, 3.2)))
    (finding,) = findings_of(found, PLAN)
    assert finding.reason == CAPACITY_BELOW_WORKLOAD
    assert finding.text == (
        "vLLM reports room for 3.2 sequences of 8,192 tokens at once where 4 are declared: "
        "lower spec.workload.concurrency to 3 or spec.workload.contextLength to about 6,553"
    )


def test_room_for_less_than_one_sequence_leaves_only_a_shorter_context() -> None:
    (finding,) = findings_of(observed(reading("model-a", report(100_000, 0.5))), PLAN)
    assert "lower spec.workload.contextLength to about 1,024" in finding.text


def test_a_report_that_is_not_used_is_told() -> None:
    assert reasons(observed(reading("model-b", problem="Absurd: zero"))) == [OBSERVATION_IGNORED]


def test_nothing_observed_is_nothing_to_tell() -> None:
    assert reasons(None) == []
