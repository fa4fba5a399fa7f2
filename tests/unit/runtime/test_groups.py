"""LeaderWorkerSets: how far they have come, and that their pods stay as they were started."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.render.plans import deployment_of, plan_of

from vllm_operator.planning.plan import Verdict
from vllm_operator.runtime.children import Child, Children, Rollout
from vllm_operator.runtime.desired import Desired, desired_by_plan
from vllm_operator.runtime.pinning import pinned_to, read_pin, same_pods, with_pin

UID, KEY = "cr-1", "default/example"
SPREAD = plan_of(gpus=16, nodes=2)
ALONE = plan_of(gpus=8)
READY = {
    "conditions": [{"type": "Available", "status": "True"}],
    "replicas": 1,
    "readyReplicas": 1,
    "updatedReplicas": 1,
}


def live(workload: dict[str, Any], *, generation: int = 1, status: dict[str, Any] | None = None) -> Child:
    metadata = {**workload["metadata"], "uid": "w-1", "resourceVersion": "1", "generation": generation}
    children = Children()
    children.upsert({**workload, "metadata": metadata, "status": status or {}})
    found = children.workload(KEY, workload["kind"])
    assert found is not None
    return found


def desired(plan: Any, running: Child | None = None, **spec: Any) -> Desired:
    return desired_by_plan(
        plan, deployment_of(spec), uid=UID, workload=running, keep=running is not None, served=frozenset()
    )


def workload_in(found: Desired) -> dict[str, Any]:
    assert found.objects is not None
    (manifest,) = (one.manifest for one in found.objects if one.id[0] in ("Deployment", "LeaderWorkerSet"))
    return manifest


@pytest.mark.parametrize(
    ("status", "complete"),
    [
        pytest.param({}, False, id="nothing-said"),
        pytest.param({**READY, "observedGeneration": 2}, True, id="ready"),
        pytest.param({**READY, "observedGeneration": 1}, False, id="of-an-older-spec"),
        pytest.param(READY, True, id="a-release-that-does-not-say-of-which"),
        pytest.param({**READY, "observedGeneration": 2, "readyReplicas": 0}, False, id="a-pod-is-missing"),
        pytest.param({**READY, "observedGeneration": 2, "updatedReplicas": 0}, False, id="old-pods-serve"),
    ],
)
def test_a_set_is_complete_with_all_groups_of_the_newest_spec_ready(status: dict[str, Any], complete: bool) -> None:
    child = live(workload_in(desired(SPREAD)), generation=2, status=status)
    assert child.rollout is not None
    assert child.rollout.complete is complete


def test_its_groups_are_the_replicas() -> None:
    workload = workload_in(desired(SPREAD, replicas=3))
    status = {**READY, "observedGeneration": 1, "replicas": 3, "readyReplicas": 2, "updatedReplicas": 3}
    expected = Rollout(generation=1, observed_generation=1, replicas=3, updated=3, available=2, ready=2, wanted=3)
    assert live(workload, status=status).rollout == expected


def test_the_kind_that_is_wanted_is_looked_at_before_the_one_that_goes() -> None:
    children = Children()
    for plan in (SPREAD, ALONE):
        workload = workload_in(desired(plan))
        children.upsert({**workload, "metadata": {**workload["metadata"], "resourceVersion": "1"}})
    for kind in ("Deployment", "LeaderWorkerSet"):
        found = children.workload(KEY, kind)
        assert found is not None
        assert found.id == (kind, "example")
    children.replace("Deployment", None, [], 2)
    left = children.workload(KEY, "Deployment")
    assert left is not None
    assert left.id[0] == "LeaderWorkerSet"
    assert children.workload("default/other", "Deployment") is None


def test_running_groups_keep_their_pods_when_a_newer_plan_differs() -> None:
    before = workload_in(desired(SPREAD))
    newer = replace(SPREAD, image="vllm/vllm-openai:v9.9.9", hash="f" * 16)

    after = desired(newer, live(before))

    assert workload_in(after)["spec"]["leaderWorkerTemplate"] == before["spec"]["leaderWorkerTemplate"]
    assert after.pinned_hash == SPREAD.hash
    assert "keep the plan that they started with" in after.rendering.message


@pytest.mark.parametrize(("running", "newer"), [(SPREAD, ALONE), (ALONE, SPREAD)], ids=["a-big-node-came", "it-went"])
def test_an_unchanged_spec_does_not_move_between_one_node_and_several(running: Any, newer: Any) -> None:
    before = workload_in(desired(running))

    after = desired(replace(newer, hash="f" * 16), live(before))

    assert workload_in(after)["kind"] == before["kind"]
    assert workload_in(after)["spec"] == before["spec"]
    assert "keep the plan that they started with" in after.rendering.message


def test_another_spec_moves_it() -> None:
    before = workload_in(desired(SPREAD))
    after = desired(ALONE, live(before), workload={"contextLength": 1024})
    assert workload_in(after)["kind"] == "Deployment"


def test_running_groups_are_left_alone_when_they_would_not_fit_today() -> None:
    before = workload_in(desired(SPREAD))
    kept = desired(replace(SPREAD, verdict=Verdict.DOES_NOT_FIT), live(before))
    assert kept.objects is None
    assert kept.pinned_hash == SPREAD.hash


class TestPin:
    def test_a_group_is_read_back_with_its_size(self) -> None:
        workload = workload_in(desired(SPREAD))
        pin = read_pin(workload)
        assert pin is not None
        assert (pin.kind, pin.nodes_per_replica, pin.plan_hash) == ("LeaderWorkerSet", 2, SPREAD.hash)
        assert same_pods(pin, workload)
        assert pinned_to(workload, pin)["spec"] == workload["spec"]

    def test_a_worker_that_differs_makes_other_pods(self) -> None:
        workload = workload_in(desired(SPREAD))
        pin = read_pin(workload)
        assert pin is not None
        other = workload_in(desired(SPREAD))
        other["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["enableServiceLinks"] = True
        assert not same_pods(pin, other)

    @pytest.mark.parametrize("role", ["leaderTemplate", "workerTemplate"])
    def test_a_pin_without_one_of_its_templates_counts_as_none(self, role: str) -> None:
        workload = workload_in(desired(SPREAD))
        del workload["spec"]["leaderWorkerTemplate"][role]
        assert read_pin(with_pin(workload, "digest")) is None
