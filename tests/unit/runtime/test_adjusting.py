"""Which adjustment is in force: by what the workload keeps, and what its own pods say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.runtime.test_failures import ended, pod, waiting

from vllm_operator.api.spec import VLLMDeploymentSpec
from vllm_operator.api.status import PlanStatus
from vllm_operator.planning.adjustment import Adjustment
from vllm_operator.render.labels import PLAN_HASH_ANNOTATION
from vllm_operator.runtime.adjusting import ADJUSTMENT_ANNOTATION, adjustment_of, annotations_of, overload_of
from vllm_operator.runtime.children import Children
from vllm_operator.runtime.pinning import pods_of_spec, with_pin
from vllm_operator.runtime.pods import PodHealth, project_health

WORDS = "torch.OutOfMemoryError: CUDA out of memory."
RUNNING = PlanStatus(hash="plan-1", max_model_len=8192, max_num_seqs=64)
KEPT = Adjustment(context_length=4096, steps=1, why="so vLLM said")


def spec(auto_adjust: str = "Safe", **sections: Any) -> VLLMDeploymentSpec:
    return VLLMDeploymentSpec.model_validate(
        {"model": {"uri": "org/model"}, "policy": {"autoAdjust": auto_adjust}, **sections}
    )


def crashed(*, plan: str = "plan-1", restarts: int = 3, words: str = WORDS, **state: Any) -> PodHealth:
    obj = pod(**{**waiting("CrashLoopBackOff"), **ended(words), **state})
    obj["metadata"]["annotations"] = {PLAN_HASH_ANNOTATION: plan}
    obj["status"]["containerStatuses"][0]["restartCount"] = restarts
    return project_health(obj)


def in_force(
    *pods: PodHealth,
    asked: VLLMDeploymentSpec | None = None,
    kept: dict[str, str] | None = None,
    running: PlanStatus | None = RUNNING,
    uid: str = "cr-1",
) -> Adjustment | None:
    """Return what follows for a Deployment of plan-1 with these annotations."""
    asked = asked or spec()
    owner = {"kind": "VLLMDeployment", "name": "model", "uid": "cr-1", "controller": True}
    template = {"metadata": {"annotations": {PLAN_HASH_ANNOTATION: "plan-1"}}, "spec": {}}
    metadata = {"name": "model", "namespace": "team", "ownerReferences": [owner], "annotations": kept or {}}
    children = Children()
    children.upsert(with_pin({"kind": "Deployment", "metadata": metadata, "spec": {"template": template}}, "digest"))
    return adjustment_of(asked, children.of("team/model")[("Deployment", "model")], pods, running, uid=uid)


def test_one_that_was_made_anew_does_not_take_the_adjustment_of_a_deleted_one_of_its_name() -> None:
    kept = annotations_of(spec(), KEPT)
    assert in_force(kept=kept) == KEPT
    assert in_force(kept=kept, uid="cr-2") is None
    assert in_force(crashed(), uid="cr-2") is None


def test_a_crash_that_comes_again_and_again_is_a_step() -> None:
    found = in_force(crashed())
    assert found == Adjustment(max_num_seqs=32, steps=1, why="a GPU ran out of memory")
    assert in_force(crashed(), kept=annotations_of(spec(), KEPT)) == Adjustment(
        context_length=4096, max_num_seqs=32, steps=2, why="a GPU ran out of memory"
    )


@pytest.mark.parametrize(
    "health",
    [
        crashed(restarts=1),
        crashed(plan="plan-0"),
        crashed(words="ConnectionError: the hub does not answer"),
        project_health(pod(ready=True, **ended(WORDS))),
    ],
    ids=["once", "a pod of an earlier plan", "for another reason", "a pod that serves again"],
)
def test_what_is_no_such_crash_leaves_what_is_in_force(health: PodHealth) -> None:
    assert in_force(health) is None
    assert in_force(health, kept=annotations_of(spec(), KEPT)) == KEPT


def test_a_sidecar_that_says_the_same_is_not_the_engine() -> None:
    assert overload_of([crashed()]) is not None
    obj = pod()
    obj["status"]["containerStatuses"].append({"name": "proxy", "restartCount": 9, **ended(WORDS)})
    assert overload_of([project_health(obj)]) is None


def test_without_leave_without_pods_and_without_the_running_plan_nothing_is_lowered() -> None:
    assert in_force(crashed(), asked=spec("Never"), kept=annotations_of(spec("Never"), KEPT)) is None
    assert adjustment_of(spec(), None, [crashed()], RUNNING, uid="cr-1") is None
    assert in_force(crashed(), running=None) is None
    assert in_force(crashed(), running=PlanStatus(hash="plan-2", max_model_len=8192, max_num_seqs=64)) is None


def test_another_spec_starts_anew_and_one_that_concerns_no_pod_does_not() -> None:
    kept = annotations_of(spec(), KEPT)
    assert in_force(asked=spec(workload={"contextLength": 2048}), kept=kept) is None
    assert in_force(asked=spec(replicas=3), kept=kept) == KEPT


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"spec": pods_of_spec(spec())})])
def test_what_cannot_be_read_counts_as_nothing(text: str) -> None:
    assert in_force(kept={ADJUSTMENT_ANNOTATION: text}) is None
