"""What pods suffer from is said in the status, with the next step; KWOK plays the kubelet that reports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import condition
from tests.plane.events import events_told
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from tests.controlplane.client import Api

pytestmark = pytest.mark.control_plane

KV_WORDS = (
    "ValueError: To serve at least one request with the model's max seq len (8192), (1.00 GiB KV cache is needed, which"
    " is larger than the available KV cache memory (0.50 GiB). Based on the available memory, the estimated maximum"
    " model length is 4096.\nRuntimeError: Engine core initialization failed. See root cause above."
)
FAILURES: dict[str, tuple[dict[str, str], str, str]] = {
    "KV cache": (
        {"fail": "CrashLoopBackOff", "last-words": KV_WORDS},
        "KVCacheTooSmall",
        "set spec.workload.contextLength to at most 4096",
    ),
    "GPU memory": (
        {"fail": "CrashLoopBackOff", "last-words": "torch.OutOfMemoryError: CUDA out of memory."},
        "OutOfGpuMemory",
        "spec.policy.overheadGb",
    ),
    "main memory": (
        {"fail": "CrashLoopBackOff", "ended": "OOMKilled", "exit-code": "137"},
        "OutOfMemory",
        "memory limit in spec.podTemplate",
    ),
    "dead worker": (
        {
            "fail": "CrashLoopBackOff",
            "ended": "Completed",
            "exit-code": "0",
            "last-words": "Worker proc VllmWorker-0 died unexpectedly, shutting down executor.",
        },
        "WorkerDied",
        "VllmWorker-0",
    ),
    "image": ({"fail": "ImagePullBackOff"}, "ImagePullFailed", "spec.engine.image"),
    "secret": ({"fail": "CreateContainerConfigError"}, "ContainerConfigError", "Secret"),
    "crash loop": ({"fail": "CrashLoopBackOff"}, "CrashLoop", "kubectl logs --previous"),
}


def _failing(namespace: str, annotations: dict[str, str]) -> dict[str, Any]:
    marks = {f"vllm-operator.test/{name}": value for name, value in annotations.items()}
    return deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, podTemplate={"metadata": {"annotations": marks}})


def _is_degraded(obj: dict[str, Any]) -> bool:
    return condition(obj, "Degraded").get("status") == "True"


@pytest.mark.parametrize(("annotations", "reason", "says"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failing_pod_is_told_with_reason_and_next_step_and_never_ready(
    api: Api, namespace: str, annotations: dict[str, str], reason: str, says: str
) -> None:
    api.create(_failing(namespace, annotations))

    judged = api.wait("VLLMDeployment", "model", _is_degraded, namespace)

    degraded, ready = condition(judged, "Degraded"), condition(judged, "Ready")
    assert degraded["reason"] == ready["reason"] == reason
    assert says in degraded["message"]
    assert ready["status"] == "False"
    assert ready["message"] == degraded["message"]
    assert condition(judged, "Available")["status"] == "False"


def test_an_init_container_that_fails_is_named_with_its_own_words_and_log(api: Api, namespace: str) -> None:
    marked = _failing(namespace, {"fail": "CrashLoopBackOff", "last-words": "curl: (6) Could not resolve host"})
    init = {"name": "fetch", "image": "registry.example.com/fetch:1", "command": ["curl", "https://example.com"]}
    marked["spec"]["podTemplate"]["spec"] = {"initContainers": [init]}
    api.create(marked)

    judged = api.wait("VLLMDeployment", "model", _is_degraded, namespace)

    degraded = condition(judged, "Degraded")
    (pod,) = (pod["metadata"]["name"] for pod in api.list("Pod", namespace))
    assert degraded["reason"] == condition(judged, "Ready")["reason"] == "CrashLoop"
    assert f"container 'fetch' of pod {pod} ended" in degraded["message"]
    assert "Could not resolve host" in degraded["message"]
    assert f"kubectl logs --previous {pod} -c fetch" in degraded["message"]
    assert condition(judged, "Ready")["status"] == "False"


def test_a_failure_is_one_event_however_often_it_is_looked_at(api: Api, namespace: str) -> None:
    api.create(_failing(namespace, FAILURES["KV cache"][0]))
    api.wait("VLLMDeployment", "model", _is_degraded, namespace)
    # Each change of the spec is another look at the same failing pod.
    for port in (8001, 8002):
        api.patch("VLLMDeployment", "model", {"spec": {"service": {"port": port}}}, namespace)
        api.wait("Service", "model", lambda obj, port=port: obj["spec"]["ports"][0]["port"] == port, namespace)

    told = events_told(api, namespace, "KVCacheTooSmall")
    assert len(told) == 1
    assert told[0]["type"] == "Warning"
    assert told[0]["regarding"]["kind"] == "VLLMDeployment"


def test_a_failure_that_is_mended_leaves_the_status(api: Api, namespace: str) -> None:
    api.create(_failing(namespace, FAILURES["KV cache"][0]))
    api.wait("VLLMDeployment", "model", _is_degraded, namespace)

    api.patch("VLLMDeployment", "model", {"spec": {"podTemplate": None}}, namespace)

    mended = api.wait("VLLMDeployment", "model", is_ready, namespace)
    assert condition(mended, "Degraded")["status"] == "False"


def test_a_pod_without_a_node_is_told_with_the_schedulers_counts(api: Api, namespace: str) -> None:
    # More replicas than the node has GPUs: some run, and the others say what they wait for.
    api.create(
        deployment(
            namespace,
            model=LLAMA_8B,
            workload=WORKLOAD,
            replicas=20,
            gpu={"products": ["*A100*"]},
            policy={"admission": "Off"},
        )
    )

    judged = api.wait("VLLMDeployment", "model", _is_degraded, namespace)

    degraded = condition(judged, "Degraded")
    assert degraded["reason"] == "Unschedulable"
    assert "nodes are available" in degraded["message"]
    assert "free nvidia.com/gpu on one of these" in degraded["message"]
    assert condition(judged, "Ready")["reason"] == "Unschedulable"


def test_a_quota_that_refuses_the_pods_is_told(api: Api, namespace: str) -> None:
    # One that could not be foreseen: a LimitRange might have given the pods the limits that it wants stated.
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "limits", "namespace": namespace},
        "spec": {"hard": {"limits.memory": "1Ti"}},
    }
    api.create(quota)
    api.wait("ResourceQuota", "limits", lambda obj: (obj.get("status") or {}).get("hard"), namespace)

    api.create(deployment(namespace, model=LLAMA_8B, workload=WORKLOAD))

    judged = api.wait("VLLMDeployment", "model", _is_degraded, namespace)
    degraded = condition(judged, "Degraded")
    assert degraded["reason"] == "PodsRefused"
    assert "failed quota: limits: must specify limits.memory" in degraded["message"]
    assert condition(judged, "Ready")["status"] == "False"
