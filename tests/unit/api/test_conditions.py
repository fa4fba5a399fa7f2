"""Conditions keep their transition time until their status changes."""

from __future__ import annotations

from vllm_operator.api.conditions import DOES_NOT_FIT, FEASIBLE, FITS, READY, find_condition, set_condition
from vllm_operator.api.status import Condition

BEFORE, AFTER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def _feasible(*conditions: Condition, status: str = "True", reason: str = FITS, now: str = BEFORE) -> list[Condition]:
    return set_condition(
        conditions, FEASIBLE, status, reason=reason, message="8.0 of 71.2 GiB", observed_generation=2, now=now
    )


def test_a_first_condition_is_added_with_its_time() -> None:
    (condition,) = _feasible()
    assert (condition.type, condition.last_transition_time, condition.observed_generation) == (FEASIBLE, BEFORE, 2)


def test_the_time_stays_while_the_status_stays() -> None:
    (condition,) = _feasible(*_feasible(), reason="FitsIfFreed", now=AFTER)
    assert (condition.reason, condition.last_transition_time) == ("FitsIfFreed", BEFORE)


def test_the_time_moves_with_the_status() -> None:
    (condition,) = _feasible(*_feasible(), status="False", reason=DOES_NOT_FIT, now=AFTER)
    assert condition.last_transition_time == AFTER


def test_other_conditions_stay_as_they_are() -> None:
    ready = Condition(type=READY, status="False", reason="Waiting", last_transition_time=BEFORE)
    conditions = _feasible(ready, now=AFTER)
    assert find_condition(conditions, READY) is ready
    assert [condition.type for condition in conditions] == [READY, FEASIBLE]
