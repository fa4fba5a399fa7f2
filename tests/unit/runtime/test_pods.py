"""The pods of our deployments: who is concerned by what."""

from __future__ import annotations

from typing import Any

from vllm_operator.runtime.pods import Pods

LABELS = {"app.kubernetes.io/managed-by": "vllm-operator", "app.kubernetes.io/instance": "model"}


def pod(uid: str = "1") -> dict[str, Any]:
    return {
        "metadata": {"name": f"model-{uid}", "namespace": "team", "uid": uid, "labels": LABELS},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]},
    }


def test_a_change_that_means_nothing_concerns_nobody() -> None:
    pods = Pods()
    assert pods.upsert(pod()) == "team/model"
    later = pod()
    later["status"]["conditions"].append({"type": "Initialized", "status": "True"})
    assert pods.upsert(later) is None
    assert pods.remove("1") == "team/model"
    assert pods.of("team/model") == ()


def test_pods_that_a_list_does_not_have_are_gone() -> None:
    pods = Pods()
    pods.upsert(pod("1"))
    pods.upsert(pod("2"))
    assert pods.retain({"2"}) == {"team/model"}
    assert [health.uid for health in pods.of("team/model")] == ["2"]
