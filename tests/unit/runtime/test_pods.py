"""What a pod's states mean to its user."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.runtime.pods import Pods, classify, project_health

LABELS = {"app.kubernetes.io/managed-by": "vllm-operator", "app.kubernetes.io/instance": "model"}


def pod(uid: str = "1", *, ready: bool = False, **container: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"model-{uid}", "namespace": "team", "uid": uid, "labels": LABELS},
        "spec": {"nodeName": "n"},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "engine", "restartCount": 3, **container}],
        },
    }


def ended(message: str = "", reason: str = "Error", code: int = 1) -> dict[str, Any]:
    return {"lastState": {"terminated": {"reason": reason, "message": message, "exitCode": code}}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


@pytest.mark.parametrize(
    ("container", "reason", "says"),
    [
        pytest.param(
            ended("ValueError: ... the estimated maximum model length is 23456. Try increasing"),
            "KVCacheTooSmall",
            "spec.workload.contextLength to at most 23456",
            id="vLLM says which length would fit",
        ),
        pytest.param(
            ended("ValueError: No available memory for the cache blocks."),
            "KVCacheTooSmall",
            "contextLength",
            id="no KV",
        ),
        pytest.param(
            ended("torch.OutOfMemoryError: CUDA out of memory. Tried"), "OutOfGpuMemory", "overheadGb", id="CUDA"
        ),
        pytest.param(ended("GatedRepoError: 403 Client Error"), "ModelGated", "tokenSecretRef", id="gated"),
        pytest.param(ended(reason="OOMKilled", code=137), "OutOfMemory", "memory limit", id="OOMKilled"),
        pytest.param(waiting("ImagePullBackOff", "not found"), "ImagePullFailed", "spec.engine.image", id="image"),
        pytest.param(waiting("CreateContainerConfigError", "secret"), "ContainerConfigError", "secret", id="config"),
        pytest.param(
            {**waiting("CrashLoopBackOff"), **ended("boom\nlast words")}, "CrashLoop", "last words", id="crash"
        ),
        pytest.param(waiting("CrashLoopBackOff"), "CrashLoop", "kubectl logs", id="crash without words"),
    ],
)
def test_a_failure_is_named_with_its_next_step(container: dict[str, Any], reason: str, says: str) -> None:
    failure = classify([project_health(pod(**container))])
    assert failure is not None
    assert failure.reason == reason
    assert says in failure.message


def test_a_pod_without_a_node_says_why() -> None:
    pending = pod()
    pending["spec"] = {}
    pending["status"] = {
        "phase": "Pending",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/5 nodes: 5 Insufficient",
            }
        ],
    }
    failure = classify([project_health(pending)])
    assert failure is not None
    assert failure.reason == "Unschedulable"
    assert "0/5 nodes" in failure.message


def test_a_pod_that_has_recovered_is_no_failure() -> None:
    assert classify([project_health(pod(ready=True, **ended("CUDA out of memory")))]) is None


def test_the_failure_that_tells_most_is_named_and_alike_ones_are_counted() -> None:
    unclear = project_health(pod("1", **waiting("CrashLoopBackOff")))
    clear = [project_health(pod(uid, **ended("CUDA out of memory"))) for uid in ("2", "3")]
    failure = classify([unclear, *clear])
    assert failure is not None
    assert failure.reason == "OutOfGpuMemory"
    assert failure.message.startswith("2 pods")


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
