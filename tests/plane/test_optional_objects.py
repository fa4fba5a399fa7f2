"""Objects that are made when they are asked for, with the chart's rights, and removed when they no longer are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import condition
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

NOTICED_WITHIN_SECONDS = 60.0
"""A CRD is looked for twice a minute."""
METRIC = {"name": "vllm_num_requests_waiting", "averageValue": "5"}
# The Prometheus operator's own schema is a megabyte; the part that is rendered is enough here.
_POD_MONITOR_SPEC = {
    "selector": {
        "type": "object",
        "properties": {"matchLabels": {"type": "object", "additionalProperties": {"type": "string"}}},
    },
    "podMetricsEndpoints": {
        "type": "array",
        "items": {"type": "object", "properties": {"port": {"type": "string"}, "path": {"type": "string"}}},
    },
}
_SPEC = {"type": "object", "required": list(_POD_MONITOR_SPEC), "properties": _POD_MONITOR_SPEC}
_SCHEMA = {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {"spec": _SPEC}}}
POD_MONITORS = "podmonitors.monitoring.coreos.com"
POD_MONITOR_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": POD_MONITORS},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": _SCHEMA}],
    },
}


def _rendered(obj: dict[str, Any]) -> dict[str, Any]:
    return condition(obj, "Rendered")


def _wanted(namespace: str, **sections: Any) -> dict[str, Any]:
    return deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, gpu={"products": ["*H100*"]}, **sections)


def test_a_budget_comes_with_a_second_replica_and_goes_with_it_by_kubectl_scale(
    scene: Scene, api: Api, namespace: str
) -> None:
    api.create(_wanted(namespace))
    api.wait("VLLMDeployment", "model", is_ready, namespace)
    assert api.find("PodDisruptionBudget", "model", namespace) is None

    scene.kubectl("scale", "vd/model", "--replicas=2", f"--namespace={namespace}")

    scaled = api.wait(
        "VLLMDeployment", "model", lambda obj: is_ready(obj) and obj["status"]["readyReplicas"] == 2, namespace
    )
    assert scaled["spec"]["replicas"] == scaled["status"]["replicas"] == 2
    budget = api.wait("PodDisruptionBudget", "model", lambda obj: "status" in obj, namespace)
    assert budget["spec"]["maxUnavailable"] == 1

    scene.kubectl("scale", "vd/model", "--replicas=1", f"--namespace={namespace}")

    api.wait_gone("PodDisruptionBudget", "model", namespace)


def test_an_autoscaler_has_the_replicas_and_nobody_takes_them_back(api: Api, namespace: str) -> None:
    api.create(_wanted(namespace, scaling={"minReplicas": 1, "maxReplicas": 3, "metric": METRIC}))
    scaler = api.wait("HorizontalPodAutoscaler", "model", bool, namespace)
    assert scaler["spec"]["scaleTargetRef"]["name"] == "model"
    assert scaler["spec"]["metrics"][0]["pods"]["metric"]["name"] == METRIC["name"]
    api.wait("VLLMDeployment", "model", is_ready, namespace)

    # What the autoscaler does: it scales the Deployment.
    api.patch("Deployment", "model", {"spec": {"replicas": 2}}, namespace, subresource="scale")
    api.wait("VLLMDeployment", "model", lambda obj: obj["status"].get("readyReplicas") == 2, namespace)
    # A change of the spec brings the Deployment's fields to what is wanted; the replicas are not among them.
    api.patch("VLLMDeployment", "model", {"spec": {"scaling": {"maxReplicas": 4}}}, namespace)
    api.wait("HorizontalPodAutoscaler", "model", lambda obj: obj["spec"]["maxReplicas"] == 4, namespace)
    api.wait("VLLMDeployment", "model", lambda obj: obj["status"]["observedGeneration"] == 2, namespace)
    assert api.get("Deployment", "model", namespace)["spec"]["replicas"] == 2

    api.patch("VLLMDeployment", "model", {"spec": {"scaling": {"metric": None}}}, namespace)

    api.wait_gone("HorizontalPodAutoscaler", "model", namespace)
    assert api.get("Deployment", "model", namespace)["spec"]["replicas"] == 2


def test_a_network_policy_is_restored_when_it_is_edited_and_removed_when_it_is_not_wanted(
    api: Api, namespace: str
) -> None:
    api.create(_wanted(namespace, networkPolicy={"allowedNamespaces": {"team": "gateway"}}))
    made = api.wait("NetworkPolicy", "model", bool, namespace)

    api.patch("NetworkPolicy", "model", {"spec": {"ingress": [{}]}}, namespace)
    api.wait("NetworkPolicy", "model", lambda obj: obj["spec"] == made["spec"], namespace)

    api.patch("VLLMDeployment", "model", {"spec": {"networkPolicy": None}}, namespace)
    api.wait_gone("NetworkPolicy", "model", namespace)


@pytest.fixture
def without_prometheus(scene: Scene, api: Api) -> Iterator[None]:
    """The cluster has no PodMonitors, and has none again afterwards, as the operator then knows from its start."""
    if api.find("CustomResourceDefinition", POD_MONITORS) is not None:
        pytest.skip("the given cluster has the Prometheus operator")
    yield
    api.delete("CustomResourceDefinition", POD_MONITORS)
    api.wait_gone("CustomResourceDefinition", POD_MONITORS)
    scene.stop_operator()
    scene.start_operator()


def test_a_pod_monitor_is_left_out_with_the_reason_until_its_api_is_installed(
    api: Api, namespace: str, without_prometheus: None
) -> None:
    api.create(_wanted(namespace, monitoring={"podMonitor": "On", "labels": {"release": "prometheus"}}))

    without = api.wait("VLLMDeployment", "model", is_ready, namespace)

    assert _rendered(without)["status"] == "True"
    assert _rendered(without)["reason"] == "AppliedInPart"
    assert "does not serve monitoring.coreos.com/v1" in _rendered(without)["message"]
    pods = {pod["metadata"]["uid"] for pod in api.list("Pod", namespace)}

    api.create(POD_MONITOR_CRD)

    api.wait(
        "VLLMDeployment",
        "model",
        lambda obj: _rendered(obj).get("reason") == "Applied",
        namespace,
        seconds=NOTICED_WITHIN_SECONDS,
    )
    monitor = api.wait("PodMonitor", "model", bool, namespace)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "http", "path": "/metrics"}]
    assert {pod["metadata"]["uid"] for pod in api.list("Pod", namespace)} == pods
