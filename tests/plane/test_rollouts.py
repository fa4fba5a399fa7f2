"""Rollouts, drains and scarce GPUs: no rollout waits for itself, no drain for ever, and the more urgent model runs."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import Refused, condition
from tests.plane.machines import gpu_node
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.controlplane.client import Api

pytestmark = pytest.mark.control_plane

LABEL = "vllm-operator.test/pool"
READY_AFTER = {"metadata": {"annotations": {"vllm-operator.test/ready-after-milliseconds": "1500"}}}
TOO_MANY_REQUESTS = 429


@pytest.fixture
def pool(own_nodes: Callable[..., None]) -> Callable[..., dict[str, str]]:
    """Add nodes that nobody else is sent to; returns the selector of them."""

    def add(*gpus: int) -> dict[str, str]:
        name = f"pool-{uuid.uuid4().hex[:8]}"
        own_nodes(*(gpu_node(f"{name}-{index}", gpus=count, labels={LABEL: name}) for index, count in enumerate(gpus)))
        return {LABEL: name}

    return add


def model(namespace: str, selector: dict[str, str], **sections: Any) -> dict[str, Any]:
    return deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, gpu={"nodeSelector": selector}, **sections)


def test_a_rollout_on_the_last_gpus_completes_without_a_free_one(
    api: Api, pool: Callable[..., dict[str, str]], namespace: str
) -> None:
    api.create(model(namespace, pool(1, 1), replicas=2))
    api.wait("VLLMDeployment", "model", is_ready, namespace)
    old = {pod["metadata"]["uid"] for pod in api.list("Pod", namespace)}

    api.patch("VLLMDeployment", "model", {"spec": {"workload": {"contextLength": 4096}}}, namespace)

    told = api.wait(
        "VLLMDeployment", "model", lambda obj: obj["status"]["observedGeneration"] == 2 and is_ready(obj), namespace
    )
    assert told["status"]["readyReplicas"] == 2
    rendered = api.get("Deployment", "model", namespace)
    assert rendered["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
    new = api.list("Pod", namespace)
    assert not old & {pod["metadata"]["uid"] for pod in new}
    assert all("4096" in pod["spec"]["containers"][0]["args"] for pod in new)


def test_a_drain_takes_one_replica_at_a_time_and_is_never_blocked_for_good(
    api: Api, pool: Callable[..., dict[str, str]], namespace: str
) -> None:
    api.create(model(namespace, pool(1, 1), replicas=2, podTemplate=READY_AFTER))
    api.wait("VLLMDeployment", "model", is_ready, namespace)
    api.wait("PodDisruptionBudget", "model", lambda obj: obj["status"].get("disruptionsAllowed") == 1, namespace)
    first, second = (pod["metadata"]["name"] for pod in api.list("Pod", namespace))

    api.evict(first, namespace)

    with pytest.raises(Refused) as refused:
        api.evict(second, namespace)
    assert refused.value.status == TOO_MANY_REQUESTS
    api.wait("PodDisruptionBudget", "model", lambda obj: obj["status"].get("disruptionsAllowed") == 1, namespace)
    api.evict(second, namespace)
    api.wait_gone("Pod", second, namespace)


def test_the_only_replica_can_be_drained(api: Api, pool: Callable[..., dict[str, str]], namespace: str) -> None:
    api.create(model(namespace, pool(1)))
    api.wait("VLLMDeployment", "model", is_ready, namespace)
    (pod,) = api.list("Pod", namespace)

    api.evict(pod["metadata"]["name"], namespace)

    api.wait_gone("Pod", pod["metadata"]["name"], namespace)
    api.wait("VLLMDeployment", "model", is_ready, namespace)


def test_replicas_are_spread_as_the_pod_template_says(
    api: Api, pool: Callable[..., dict[str, str]], namespace: str
) -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": "model"}},
    }
    overlay = {"spec": {"topologySpreadConstraints": [constraint]}}

    api.create(model(namespace, pool(8, 2), replicas=4, podTemplate=overlay))

    api.wait("VLLMDeployment", "model", is_ready, namespace)
    on_nodes = Counter(pod["spec"]["nodeName"] for pod in api.list("Pod", namespace))
    assert sorted(on_nodes.values()) == [2, 2]


@pytest.fixture
def urgent(api: Api) -> Iterator[str]:
    """A priority above the usual one."""
    name = f"urgent-{uuid.uuid4().hex[:8]}"
    api.create(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": 1000,
        }
    )
    yield name
    api.delete("PriorityClass", name)


def test_a_more_urgent_model_takes_the_gpu_and_the_other_says_what_it_waits_for(
    api: Api, pool: Callable[..., dict[str, str]], namespace: str, urgent: str
) -> None:
    selector = pool(1)
    api.create(model(namespace, selector))
    api.wait("VLLMDeployment", "model", is_ready, namespace)

    overlay = {"spec": {"priorityClassName": urgent}}
    api.create(
        {**model(namespace, selector, podTemplate=overlay), "metadata": {"name": "urgent", "namespace": namespace}}
    )
    assert any("FitsIfFreed" in warning for warning in api.warnings)

    api.wait("VLLMDeployment", "urgent", is_ready, namespace)
    displaced = api.wait(
        "VLLMDeployment", "model", lambda obj: condition(obj, "Degraded").get("reason") == "Unschedulable", namespace
    )
    assert condition(displaced, "Ready")["status"] == "False"
    assert "Insufficient nvidia.com/gpu" in condition(displaced, "Degraded")["message"]

    api.patch("VLLMDeployment", "urgent", {"spec": {"replicas": 0}}, namespace)
    again = api.wait("VLLMDeployment", "model", is_ready, namespace)
    assert condition(again, "Degraded")["status"] == "False"
