"""How a rollout goes is decided when the pods change, and does not follow every free GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.render.plans import deployment_of, plan_of

from vllm_operator.runtime.children import Children
from vllm_operator.runtime.desired import desired_by_plan

if TYPE_CHECKING:
    from vllm_operator.runtime.children import Child

UID = "cr-1"
KEY = "default/example"
COMPLETE = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
REFUSED = {"type": "ReplicaFailure", "status": "True", "message": 'pods "x" is forbidden: exceeded quota'}
UNDER_WAY = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}
IN_PLACE = {"maxSurge": 0, "maxUnavailable": 1}
WITH_SURGE = {"maxSurge": 1, "maxUnavailable": 0}


def _deployment(
    *,
    has_room: bool,
    live: Child | None = None,
    strategy: str = "Auto",
    image: str | None = None,
    quotas_allow_surge: bool = True,
) -> dict[str, Any]:
    spec = {"rollout": {"strategy": strategy}, **({"engine": {"image": image}} if image else {})}
    desired = desired_by_plan(
        plan_of(has_room_for_surge=has_room),
        deployment_of(spec),
        uid=UID,
        workload=live,
        keep=live is not None,
        served=frozenset(),
        quotas_allow_surge=quotas_allow_surge,
    )
    assert desired.objects is not None
    manifest: dict[str, Any] = next(one.manifest for one in desired.objects if one.id[0] == "Deployment")
    return manifest


def _live(deployment: dict[str, Any], status: dict[str, Any]) -> Child:
    metadata = {**deployment["metadata"], "uid": "d-1", "resourceVersion": "1", "generation": 1}
    children = Children()
    children.upsert({**deployment, "metadata": metadata, "status": status})
    return children.of(KEY)["Deployment", "example"]


def _rollout(deployment: dict[str, Any]) -> dict[str, Any]:
    rolling: dict[str, Any] = deployment["spec"]["strategy"]["rollingUpdate"]
    return rolling


@pytest.mark.parametrize(
    ("had_room", "status", "has_room", "expected"),
    [
        pytest.param(True, COMPLETE, True, WITH_SURGE, id="as before"),
        pytest.param(True, COMPLETE, False, WITH_SURGE, id="room that goes while nothing rolls"),
        pytest.param(True, UNDER_WAY, False, IN_PLACE, id="room that goes under way: its pod would wait for ever"),
        pytest.param(True, UNDER_WAY, True, WITH_SURGE, id="under way with room"),
        pytest.param(True, {**UNDER_WAY, "conditions": [REFUSED]}, True, IN_PLACE, id="under way and refused"),
        pytest.param(False, COMPLETE, True, IN_PLACE, id="room that comes while nothing rolls"),
        pytest.param(False, UNDER_WAY, True, IN_PLACE, id="room that comes under way"),
    ],
)
def test_a_rollout_is_as_it_was_decided_for_these_pods(
    had_room: bool, status: dict[str, Any], has_room: bool, expected: dict[str, Any]
) -> None:
    before = _deployment(has_room=had_room)
    assert _rollout(before) == (WITH_SURGE if had_room else IN_PLACE)
    after = _deployment(has_room=has_room, live=_live(before, status))
    assert _rollout(after) == expected
    assert after["spec"]["template"] == before["spec"]["template"]


@pytest.mark.parametrize(("had_room", "has_room"), [(True, False), (False, True)])
def test_new_pods_are_rolled_out_as_there_is_room_for_them(had_room: bool, has_room: bool) -> None:
    live = _live(_deployment(has_room=had_room), COMPLETE)
    after = _deployment(has_room=has_room, live=live, image="registry.example/vllm:1")
    assert _rollout(after) == (WITH_SURGE if has_room else IN_PLACE)


def test_what_the_spec_says_needs_no_room() -> None:
    live = _live(_deployment(has_room=False), COMPLETE)
    assert _rollout(_deployment(has_room=False, live=live, strategy="RollingUpdate")) == WITH_SURGE


def test_leaving_it_to_the_operator_again_is_decided_anew() -> None:
    recreated = _live(_deployment(has_room=True, strategy="Recreate"), COMPLETE)
    assert _rollout(_deployment(has_room=True, live=recreated)) == WITH_SURGE
    assert _rollout(_deployment(has_room=False, live=recreated)) == IN_PLACE


def test_a_quota_that_leaves_no_replica_more_leaves_no_surge() -> None:
    assert _rollout(_deployment(has_room=True, quotas_allow_surge=False)) == IN_PLACE
    live = _live(_deployment(has_room=True), COMPLETE)
    assert _rollout(_deployment(has_room=True, live=live, quotas_allow_surge=False)) == WITH_SURGE
    changed = _deployment(has_room=True, live=live, quotas_allow_surge=False, image="registry.example/vllm:1")
    assert _rollout(changed) == IN_PLACE
