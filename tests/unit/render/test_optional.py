"""Objects that are made when they are asked for, and left out with a reason where their API is missing."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
from tests.unit.render.plans import deployment_of, plan_of

from vllm_operator.render.objects import render
from vllm_operator.render.optional import (
    AUTOSCALER,
    BUILT_IN,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    POD_MONITOR,
    Optional,
    render_optional,
)

ALL = BUILT_IN | {POD_MONITOR}
METRIC = {"scaling": {"maxReplicas": 4, "metric": {"averageValue": "5"}}}
EVERYTHING = {**METRIC, "networkPolicy": {"allowedNamespaces": {"team": "gateway"}}, "monitoring": {"podMonitor": "On"}}


def _optional(spec: dict[str, Any], *, served: frozenset[str] = ALL, uid: str | None = "uid-1") -> Optional:
    return render_optional(plan_of(), deployment_of(spec), namespace="models", name="example", uid=uid, served=served)


def _made(spec: dict[str, Any], **options: Any) -> dict[str, dict[str, Any]]:
    return {obj["kind"]: obj for obj in _optional(spec, **options).objects}


@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        pytest.param({}, {POD_MONITOR}, id="one replica"),
        pytest.param({"monitoring": {"podMonitor": "Off"}}, set(), id="no monitoring"),
        pytest.param({"replicas": 2}, {POD_MONITOR, DISRUPTION_BUDGET}, id="two replicas"),
        pytest.param({"scaling": {"maxReplicas": 1}}, {POD_MONITOR}, id="scaled to at most one"),
        pytest.param({"scaling": {"maxReplicas": 4}}, {POD_MONITOR, DISRUPTION_BUDGET}, id="own autoscaler"),
        pytest.param(METRIC, {POD_MONITOR, DISRUPTION_BUDGET, AUTOSCALER}, id="autoscaler"),
        pytest.param({"networkPolicy": {}}, {POD_MONITOR, NETWORK_POLICY}, id="closed"),
    ],
)
def test_an_object_is_made_only_when_it_is_asked_for(spec: dict[str, Any], kinds: set[str]) -> None:
    assert set(_made(spec)) == kinds


def test_the_autoscaler_scales_the_deployment_whose_replicas_are_left_to_it() -> None:
    scaler = _made(METRIC)[AUTOSCALER]["spec"]
    (workload,) = (
        obj
        for obj in render(plan_of(), deployment_of(METRIC), namespace="models", name="example")
        if obj["kind"] == "Deployment"
    )
    assert scaler["scaleTargetRef"] == {
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        "name": workload["metadata"]["name"],
    }
    assert "replicas" not in workload["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (1, 4)
    (metric,) = scaler["metrics"]
    assert metric["pods"]["metric"]["name"] == "vllm:num_requests_waiting"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "5"}


def test_a_budget_never_blocks_the_eviction_of_the_last_pod_or_of_one_that_does_not_serve() -> None:
    budget = _made({"replicas": 3})[DISRUPTION_BUDGET]["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_a_closed_model_is_open_to_its_namespace_and_to_the_named_ones_only() -> None:
    policy = _made(EVERYTHING)[NETWORK_POLICY]["spec"]
    (rule,) = policy["ingress"]
    assert rule["from"] == [{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"team": "gateway"}}}]
    assert policy["policyTypes"] == ["Ingress"]


def test_a_closed_model_without_further_namespaces_is_not_open_to_all_of_them() -> None:
    (rule,) = _made({"networkPolicy": {}})[NETWORK_POLICY]["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {}}]


def test_a_pod_monitor_has_the_labels_that_prometheus_selects_by_and_never_loses_ours() -> None:
    labels = {"release": "prometheus", "app.kubernetes.io/managed-by": "somebody"}
    monitor = _made({"monitoring": {"labels": labels}})[POD_MONITOR]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "vllm-operator"


def test_everything_selects_the_deployments_pods_and_belongs_to_the_resource() -> None:
    (workload,) = (
        obj
        for obj in render(plan_of(), deployment_of({}), namespace="models", name="example")
        if obj["kind"] == "Deployment"
    )
    selected = workload["spec"]["selector"]["matchLabels"]
    made = _made(EVERYTHING)
    assert set(made) == ALL
    for kind, path in ((DISRUPTION_BUDGET, "selector"), (NETWORK_POLICY, "podSelector"), (POD_MONITOR, "selector")):
        assert made[kind]["spec"][path]["matchLabels"] == selected
    for obj in made.values():
        (owner,) = obj["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("VLLMDeployment", "uid-1", True)


def test_built_in_objects_are_valid_for_kubernetes() -> None:
    for kind, obj in _made(EVERYTHING).items():
        if kind in BUILT_IN:
            kubernetes_validate.validate(obj, kubernetes_validate.latest_version(), strict=True)


def test_what_is_asked_for_and_has_no_api_is_left_out_with_the_reason() -> None:
    found = _optional(EVERYTHING, served=frozenset())
    assert found.objects == ()
    assert {left.kind for left in found.left_out} == ALL
    why = {left.kind: left.why for left in found.left_out}
    assert "monitoring.coreos.com/v1" in why[POD_MONITOR]


def test_what_is_only_wanted_where_possible_is_left_out_without_a_word() -> None:
    assert _optional({}, served=BUILT_IN) == Optional()


@pytest.mark.parametrize(
    "spec", [METRIC, {"replicas": 2}, {"networkPolicy": {}}, {"monitoring": {"labels": {"a": "b"}}}]
)
def test_none_of_them_changes_the_pods(spec: dict[str, Any]) -> None:
    def template(spec: dict[str, Any]) -> dict[str, Any]:
        objects = render(plan_of(), deployment_of(spec), namespace="models", name="example")
        pods: dict[str, Any] = next(obj for obj in objects if obj["kind"] == "Deployment")["spec"]["template"]
        return pods

    assert template(spec) == template({})
