"""Whether a rollout may start a pod before it ends one: there must be room for one more than ever run."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.planning.fleets import LLAMA_8B, alters, facts, inventory, node, pod, spec

from vllm_operator.planning.decide import plan

THREE_GPUS = [node("H100", "a", 2), node("H100", "b", 1)]


def _planned(*objects: dict[str, Any], **sections: Any) -> Any:
    wanted = spec(LLAMA_8B, workload={"contextLength": 8192}, **sections)
    return plan(wanted, facts(LLAMA_8B), inventory(*objects))


@pytest.mark.parametrize(
    ("sections", "has_room"),
    [
        pytest.param({}, True, id="one of three"),
        pytest.param({"replicas": 2}, True, id="two of three"),
        pytest.param({"replicas": 3}, False, id="three of three"),
        pytest.param({"scaling": {"maxReplicas": 2}}, True, id="at most two"),
        pytest.param({"scaling": {"maxReplicas": 3}}, False, id="an autoscaler may take all"),
        pytest.param({"replicas": 0}, True, id="none now"),
    ],
)
def test_there_is_room_for_a_surge_when_one_more_than_ever_run_would_fit(
    sections: dict[str, Any], has_room: bool
) -> None:
    assert _planned(*THREE_GPUS, **sections).has_room_for_surge is has_room


def test_the_last_free_gpu_that_goes_is_news_for_a_plan_that_surges() -> None:
    before, after = inventory(*THREE_GPUS, pod("a", 1)), inventory(*THREE_GPUS, pod("a", 2))
    found = _planned(*THREE_GPUS, pod("a", 1))
    assert found.has_room_for_surge
    assert not _planned(*THREE_GPUS, pod("a", 2)).has_room_for_surge
    assert alters(found, before, after)


def test_what_does_not_fit_has_no_room() -> None:
    assert not _planned(node("T4", "t", 1)).has_room_for_surge
