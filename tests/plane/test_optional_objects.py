"""Objects that are made when they are asked for, with the chart's rights, and removed when they no longer are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane import foreign_kinds
from tests.controlplane.client import condition
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_reconcile import operator_writes
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

NOTICED_WITHIN_SECONDS = 60.0
"""A CRD is looked for twice a minute."""
METRIC = {"name": "vllm_num_requests_waiting", "averageValue": "5"}
KEDA = {"serverAddress": "http://prometheus.monitoring:9090", "averageValue": "16"}
GATEWAY = {
    "parentRefs": [{"name": "inference", "namespace": "gateways"}],
    "hostnames": ["llama.example.com"],
    "pathPrefix": "/llama",
    "requestTimeoutSeconds": 600,
    "inferencePool": {"endpointPicker": {"name": "llama-picker"}},
}
FOREIGN: dict[str, Any] = {
    "scaling": {"maxReplicas": 2, "keda": KEDA},
    "monitoring": {"podMonitor": "On", "labels": {"release": "prometheus"}},
    "gateway": GATEWAY,
}
"""Sections that ask for every kind that comes from elsewhere."""


def _rendered(obj: dict[str, Any]) -> dict[str, Any]:
    return condition(obj, "Rendered")


def _is_applied(obj: dict[str, Any]) -> bool:
    return bool(_rendered(obj).get("reason") == "Applied")


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
def without_foreign_kinds(scene: Scene, api: Api) -> Iterator[None]:
    """The cluster has none of the kinds that come from elsewhere, and has none again afterwards."""
    if found := foreign_kinds.present(api):
        assert not scene.plane.disposable, f"a test before has left {found}"
        pytest.skip(f"the given cluster has {', '.join(found)}")
    yield
    foreign_kinds.remove(api)


def test_what_has_no_api_is_left_out_with_the_reason_made_once_it_has_one_and_left_out_again(
    api: Api, namespace: str, without_foreign_kinds: None
) -> None:
    api.create(_wanted(namespace, **FOREIGN))

    without = api.wait("VLLMDeployment", "model", is_ready, namespace)

    assert _rendered(without)["status"] == "True"
    assert _rendered(without)["reason"] == "AppliedInPart"
    for kind, crd in foreign_kinds.CRDS.items():
        group = crd["spec"]["group"]
        assert f"no {kind} is made: the cluster does not serve {group}/" in _rendered(without)["message"]
    pods = {pod["metadata"]["uid"] for pod in api.list("Pod", namespace)}

    foreign_kinds.install(api)

    api.wait("VLLMDeployment", "model", _is_applied, namespace, seconds=NOTICED_WITHIN_SECONDS)
    made = {kind: api.get(kind, "model", namespace) for kind in foreign_kinds.CRDS}
    assert made["PodMonitor"]["metadata"]["labels"]["release"] == "prometheus"
    assert made["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == "model"
    assert made["HTTPRoute"]["spec"]["rules"][0]["backendRefs"][0]["kind"] == "InferencePool"
    assert made["InferencePool"]["spec"]["targetPorts"] == [{"number": 8000}]

    foreign_kinds.remove(api)

    again = api.wait(
        "VLLMDeployment",
        "model",
        lambda obj: _rendered(obj)["reason"] == "AppliedInPart" and "no HTTPRoute is made" in _rendered(obj)["message"],
        namespace,
        seconds=NOTICED_WITHIN_SECONDS,
    )
    ready, ready_before = condition(again, "Ready"), condition(without, "Ready")
    assert ready["status"] == "True"
    assert ready["lastTransitionTime"] == ready_before["lastTransitionTime"], "what comes and goes is not the model"
    assert {pod["metadata"]["uid"] for pod in api.list("Pod", namespace)} == pods


def test_foreign_objects_go_when_they_are_not_wanted_any_more(api: Api, namespace: str, foreign: None) -> None:
    api.create(_wanted(namespace, **FOREIGN))
    api.wait("VLLMDeployment", "model", _is_applied, namespace)

    scaling = {"maxReplicas": 2, "keda": None, "metric": METRIC}
    without = {"scaling": scaling, "gateway": {"inferencePool": None}, "monitoring": {"podMonitor": "Off"}}
    api.patch("VLLMDeployment", "model", {"spec": without}, namespace)

    for kind in ("ScaledObject", "InferencePool", "PodMonitor"):
        api.wait_gone(kind, "model", namespace)
    api.wait("HorizontalPodAutoscaler", "model", bool, namespace)
    api.wait(
        "HTTPRoute",
        "model",
        lambda obj: obj["spec"]["rules"][0]["backendRefs"][0]["kind"] == "Service",
        namespace,
    )

    api.patch("VLLMDeployment", "model", {"spec": {"gateway": None}}, namespace)

    api.wait_gone("HTTPRoute", "model", namespace)


def test_a_restarted_operator_finds_nothing_to_write_in_any_kind(
    scene: Scene, api: Api, namespace: str, foreign: None
) -> None:
    closed = {"networkPolicy": {"allowedNamespaces": {"team": "gateway"}}}
    api.create(_wanted(namespace, **FOREIGN, **closed))
    api.wait("VLLMDeployment", "model", lambda obj: _is_applied(obj) and is_ready(obj), namespace)
    scene.stop_operator()
    writes = operator_writes(scene, namespace)

    scene.start_operator()
    # What is created later is reconciled later: when it is ready, the first has been looked at.
    api.create(_wanted(namespace, name="later", scaling={"maxReplicas": 1, "metric": METRIC}, **closed))
    api.wait("VLLMDeployment", "later", is_ready, namespace)

    again = [write for write in operator_writes(scene, namespace)[len(writes) :] if "/status" not in write]
    made_for_later = Counter(f"patch {plural}/" for plural in ("deployments", "services", "networkpolicies"))
    made_for_later += Counter(("patch horizontalpodautoscalers/", "patch podmonitors/"))
    assert Counter(write for write in again if "events" not in write) == made_for_later


def test_an_autoscaler_without_its_metrics_is_told_once_a_pod_serves(api: Api, namespace: str) -> None:
    api.create(_wanted(namespace, scaling={"maxReplicas": 2, "metric": METRIC}))

    told = api.wait(
        "VLLMDeployment", "model", lambda obj: _rendered(obj).get("reason") == "PartNotWorking", namespace, seconds=60
    )

    assert is_ready(told)
    assert _rendered(told)["status"] == "True"
    assert "the HorizontalPodAutoscaler does not work: FailedGetPodsMetric" in _rendered(told)["message"]
    assert "custom metrics API" in _rendered(told)["message"]


def test_a_route_that_its_gateway_refuses_is_told_until_it_accepts_it(api: Api, namespace: str, foreign: None) -> None:
    api.create(_wanted(namespace, gateway=GATEWAY))
    api.wait("VLLMDeployment", "model", _is_applied, namespace)

    api.patch("HTTPRoute", "model", _gateways_word("False", "NotAllowedByListeners"), namespace, subresource="status")

    told = api.wait("VLLMDeployment", "model", lambda obj: "inference" in _rendered(obj)["message"], namespace)
    assert _rendered(told)["reason"] == "PartNotWorking"
    assert "the HTTPRoute does not work: Gateway inference: NotAllowedByListeners" in _rendered(told)["message"]

    api.patch("HTTPRoute", "model", _gateways_word("True", "Accepted"), namespace, subresource="status")

    api.wait("VLLMDeployment", "model", _is_applied, namespace)


def _gateways_word(status: str, reason: str) -> dict[str, Any]:
    accepted = {"type": "Accepted", "status": status, "reason": reason, "message": "said by a test"}
    parent = {"parentRef": {"name": "inference"}, "controllerName": "example.com/gateway", "conditions": [accepted]}
    return {"status": {"parents": [parent]}}
