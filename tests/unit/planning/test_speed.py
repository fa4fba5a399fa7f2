"""A plan is cheap enough to be made at every admission; `python -m tests.perf.bench_plan` has the exact figures."""

from __future__ import annotations

from tests.perf.bench_plan import cluster, planning_times, refused_times

SLACK = 4
"""CPU time of a shared, slower machine against the one that the bars are for."""
MOST_PLANS_OF_A_REFUSAL = 40
"""Median of a refusal over the median of all plans: 16 when it was last measured, 60 when each change was planned."""


def test_a_plan_on_a_hundred_nodes_of_ten_classes_takes_about_a_millisecond() -> None:
    nodes = cluster(100)
    planning_times(nodes)  # first contact with models and GPUs

    times = planning_times(nodes)

    assert times.median_ms <= 1 * SLACK
    assert times.p99_ms <= 5 * SLACK


def test_five_thousand_nodes_cost_what_their_classes_cost() -> None:
    assert planning_times(cluster(5000), questions=100).median_ms <= 5 * SLACK


def test_what_nothing_holds_is_refused_before_an_admission_gets_impatient() -> None:
    nodes = cluster(100)
    refused_times(nodes)

    assert refused_times(nodes).median_ms <= 8 * SLACK


def test_a_refusal_with_all_its_suggestions_costs_a_few_dozen_plans() -> None:
    nodes = cluster(100)
    refused_times(nodes)
    planning_times(nodes)

    assert refused_times(nodes).median_ms <= MOST_PLANS_OF_A_REFUSAL * planning_times(nodes).median_ms


def test_a_model_is_met_for_the_first_time_before_an_admission_gets_impatient() -> None:
    assert planning_times(cluster(100), unmet=True).p99_ms <= 25 * SLACK
