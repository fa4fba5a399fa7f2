"""What a pod's states and vLLM's last words mean to their user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vllm_operator.runtime.failures import Failure, classify
from vllm_operator.runtime.pods import project_health

LAST_WORDS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "last_words.yaml").read_text())
STARTED = "2026-01-01T00:00:00Z"


def pod(name: str = "model-1", *, ready: bool = False, **container: Any) -> dict[str, Any]:
    probe = {"periodSeconds": 10, "failureThreshold": 60}
    return {
        "metadata": {"name": name, "namespace": "team", "uid": name},
        "spec": {
            "nodeName": "n",
            "terminationGracePeriodSeconds": 85,
            "containers": [{"name": "engine", "startupProbe": probe}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "engine", "restartCount": 3, **container}],
        },
    }


def ended(message: str = "", reason: str = "Error", code: int = 1, *, at: str = STARTED) -> dict[str, Any]:
    state = {"reason": reason, "message": message, "exitCode": code, "startedAt": STARTED, "finishedAt": at}
    return {"lastState": {"terminated": state}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def failure_of(*pods: dict[str, Any]) -> Failure:
    failure = classify(project_health(obj) for obj in pods)
    assert failure is not None
    return failure


@pytest.mark.parametrize("given", LAST_WORDS, ids=[f"{given['case']} ({given['vllm']})" for given in LAST_WORDS])
def test_the_engines_last_words_become_a_reason_with_its_figures_and_the_next_step(given: dict[str, Any]) -> None:
    state = ended(given["words"], given.get("ended", "Error"), given.get("exit_code", 1))
    failure = failure_of(pod(**waiting("CrashLoopBackOff"), **state))
    assert failure.reason == given["reason"]
    assert failure.advice
    for part in given["says"]:
        assert part in failure.message


@pytest.mark.parametrize(
    ("container", "reason", "says"),
    [
        pytest.param(waiting("ImagePullBackOff", "not found"), "ImagePullFailed", "spec.engine.image", id="image"),
        pytest.param(waiting("CreateContainerConfigError", 'secret "hf"'), "ContainerConfigError", "hf", id="config"),
        pytest.param(ended(reason="OOMKilled", code=137), "OutOfMemory", "memory limit", id="main memory"),
        pytest.param(waiting("CrashLoopBackOff"), "CrashLoop", "kubectl logs --previous model-1", id="no words"),
        pytest.param(
            ended(code=137, at="2026-01-01T00:10:04Z"), "StartupTimeout", "within the 600 s", id="probe's budget spent"
        ),
        pytest.param(ended(code=137, at="2026-01-01T00:05:00Z"), "CrashLoop", "exit code 137", id="killed before it"),
        pytest.param(ended(code=137, at="2026-01-01T06:00:00Z"), "CrashLoop", "exit code 137", id="killed long after"),
    ],
)
def test_a_containers_state_becomes_a_reason_with_the_next_step(
    container: dict[str, Any], reason: str, says: str
) -> None:
    failure = failure_of(pod(**container))
    assert failure.reason == reason
    assert says in failure.message


@pytest.mark.parametrize(
    ("message", "says", "not_said"),
    [
        pytest.param(
            "0/5 nodes are available: 2 Insufficient nvidia.com/gpu, 3 node(s) didn't match Pod's node"
            " affinity/selector. preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling.",
            "free nvidia.com/gpu on one of these 2 nodes",
            "preemption",
            id="no free GPU",
        ),
        pytest.param(
            "0/5 nodes are available: 5 node(s) had untolerated taint(s).",
            "spec.gpu.tolerations",
            "free ",
            id="no node that it may use",
        ),
    ],
)
def test_a_pod_without_a_node_says_why_with_the_schedulers_counts(message: str, says: str, not_said: str) -> None:
    pending = pod()
    pending["spec"] = {}
    entry = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    pending["status"] = {"phase": "Pending", "conditions": [entry]}
    failure = failure_of(pending)
    assert failure.reason == "Unschedulable"
    assert "0/5 nodes are available" in failure.message
    assert says in failure.message
    assert not_said not in failure.message


def test_the_nodes_reason_for_an_eviction_is_kept() -> None:
    evicted = pod(state={"terminated": {"reason": "Error", "exitCode": 137}})
    text = "The node was low on resource: ephemeral-storage."
    evicted["status"] |= {"phase": "Failed", "reason": "Evicted", "message": text}
    failure = failure_of(evicted)
    assert failure.reason == "Evicted"
    assert "ephemeral-storage" in failure.message


def test_a_pod_that_has_recovered_is_no_failure() -> None:
    assert classify([project_health(pod(ready=True, **ended("CUDA out of memory")))]) is None


def test_a_pod_that_is_being_deleted_is_no_failure() -> None:
    leaving = pod(state={"terminated": {"reason": "Completed", "exitCode": 0}})
    leaving["metadata"]["deletionTimestamp"] = STARTED
    assert classify([project_health(leaving)]) is None


def test_a_pod_that_starts_is_no_failure() -> None:
    assert classify([project_health(pod(state={"running": {"startedAt": STARTED}}))]) is None


def test_an_init_container_that_is_done_is_no_failure() -> None:
    starting = pod(state={"waiting": {"reason": "PodInitializing"}})
    done = {"name": "fetch", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}
    starting["status"]["initContainerStatuses"] = [done]
    assert classify([project_health(starting)]) is None


def test_an_init_container_that_failed_is_named_and_its_words_are_not_taken_for_the_engines() -> None:
    starting = pod(state={"waiting": {"reason": "PodInitializing"}})
    failing = {"name": "fetch", **waiting("CrashLoopBackOff"), **ended("CUDA out of memory", code=137)}
    starting["status"]["initContainerStatuses"] = [failing]
    failure = failure_of(starting)
    assert failure.reason == "CrashLoop"
    assert "container 'fetch' of pod model-1 ended (Error, exit code 137" in failure.message
    assert failure.advice == "read its log: kubectl logs --previous model-1 -c fetch"


def test_the_engines_end_tells_more_than_that_of_a_sidecar() -> None:
    both = pod(**ended("ValueError: No available memory for the cache blocks."))
    both["status"]["containerStatuses"].insert(0, {"name": "a-proxy", **ended("connection refused")})
    assert failure_of(both).reason == "KVCacheTooSmall"


def test_the_failure_that_tells_most_is_named_and_alike_ones_are_counted() -> None:
    unclear = pod("model-1", **waiting("CrashLoopBackOff"))
    clear = [pod(name, **ended("RuntimeError: CUDA error: out of memory")) for name in ("model-2", "model-3")]
    failure = failure_of(unclear, *clear)
    assert failure.reason == "OutOfGpuMemory"
    assert failure.message.startswith("2 pods, of which pod model-3")
