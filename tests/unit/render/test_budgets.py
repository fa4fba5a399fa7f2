"""Times of a pod follow from the bytes that have to be read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.render.budgets import (
    ENGINE_START_SECONDS,
    GRACE_MARGIN_SECONDS,
    HUB_BYTES_PER_SECOND,
    IMAGE_PULL_SECONDS,
    UNKNOWN_SIZE_SECONDS,
    budgets,
)

BYTES = st.integers(min_value=0, max_value=2 * 10**12)


def test_a_16_gb_model_from_the_hub_has_1000_seconds() -> None:
    assert budgets(16_000_000_000, from_hub=True).startup_seconds == 1000


def test_a_16_gb_model_on_a_volume_has_760_seconds() -> None:
    assert budgets(16_000_000_000, from_hub=False).startup_seconds == 760


def test_an_unknown_size_gets_the_time_of_a_large_model() -> None:
    assert budgets(None, from_hub=True).startup_seconds == UNKNOWN_SIZE_SECONDS


@given(BYTES, st.booleans())
def test_the_probe_waits_for_the_whole_budget(size: int, from_hub: bool) -> None:
    times = budgets(size, from_hub=from_hub)
    assert times.startup_failure_threshold * times.probe_period_seconds >= times.startup_seconds
    assert times.startup_seconds >= ENGINE_START_SECONDS + size // HUB_BYTES_PER_SECOND * (1 if from_hub else 0)


@given(BYTES, st.booleans())
def test_a_rollout_is_not_given_up_while_a_pod_may_still_start(size: int, from_hub: bool) -> None:
    times = budgets(size, from_hub=from_hub)
    assert times.progress_deadline_seconds >= times.startup_seconds + IMAGE_PULL_SECONDS


@given(BYTES, BYTES)
def test_more_bytes_never_have_less_time(one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert budgets(few, from_hub=True).startup_seconds <= budgets(many, from_hub=True).startup_seconds


def test_the_pod_outlives_its_drain() -> None:
    times = budgets(0, from_hub=True)
    assert times.grace_period_seconds >= times.pre_stop_seconds + times.shutdown_timeout_seconds + GRACE_MARGIN_SECONDS
