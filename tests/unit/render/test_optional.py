"""Objects that are made when they are asked for, and left out with a reason where their API is missing."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
from tests.unit.render.plans import deployment_of, plan_of

from vllm_operator.render.objects import render, workload_of
from vllm_operator.render.optional import (
    ADDED,
    AUTOSCALER,
    BUILT_IN,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    POD_MONITOR,
    POOL,
    ROUTE,
    SCALED_OBJECT,
    Optional,
    kinds_without_a_cluster,
    render_optional,
)

ALL = BUILT_IN | ADDED
METRIC = {"scaling": {"maxReplicas": 4, "metric": {"averageValue": "5"}}}
KEDA = {"scaling": {"maxReplicas": 4, "keda": {"serverAddress": "http://prometheus:9090", "averageValue": "16"}}}
PARENTS = [{"name": "inference", "namespace": "gateways"}]
POOLED = {"endpointPicker": {"name": "picker"}}
CLOSED = {"networkPolicy": {"allowedNamespaces": {"team": "gateway"}}}
EVERYTHING = {
    **METRIC,
    **CLOSED,
    "monitoring": {"podMonitor": "On"},
    "gateway": {"parentRefs": PARENTS, "inferencePool": POOLED},
}


def _optional(
    spec: dict[str, Any],
    *,
    served: frozenset[str] = ALL,
    uid: str | None = "uid-1",
    checkpoint_bytes: int | None = 16_000_000_000,
) -> Optional:
    plan, deployment = plan_of(checkpoint_bytes=checkpoint_bytes), deployment_of(spec)
    workload = workload_of(render(plan, deployment, namespace="models", name="example"))
    return render_optional(plan, deployment, workload=workload, uid=uid, served=served)


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
        pytest.param(KEDA, {POD_MONITOR, DISRUPTION_BUDGET, SCALED_OBJECT}, id="keda"),
        pytest.param({"networkPolicy": {}}, {POD_MONITOR, NETWORK_POLICY}, id="closed"),
        pytest.param({"gateway": {"parentRefs": PARENTS}}, {POD_MONITOR, ROUTE}, id="route"),
        pytest.param({"gateway": {"inferencePool": POOLED}}, {POD_MONITOR, POOL}, id="pool"),
    ],
)
def test_an_object_is_made_only_when_it_is_asked_for(spec: dict[str, Any], kinds: set[str]) -> None:
    assert set(_made(spec)) == kinds


@pytest.mark.parametrize(("spec", "kind"), [(METRIC, AUTOSCALER), (KEDA, SCALED_OBJECT)])
def test_an_autoscaler_scales_the_workload_whose_replicas_are_left_to_it(spec: dict[str, Any], kind: str) -> None:
    workload = workload_of(render(plan_of(), deployment_of(spec), namespace="models", name="example"))
    assert _made(spec)[kind]["spec"]["scaleTargetRef"] == {
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        "name": workload["metadata"]["name"],
    }
    assert "replicas" not in workload["spec"]


def test_the_autoscaler_follows_the_metric_within_its_bounds() -> None:
    scaler = _made(METRIC)[AUTOSCALER]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (1, 4)
    (metric,) = scaler["metrics"]
    assert metric["pods"]["metric"]["name"] == "vllm:num_requests_waiting"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "5"}


@pytest.mark.parametrize(
    ("checkpoint_bytes", "given", "seconds"),
    [
        pytest.param(16_000_000_000, None, 600 + 400, id="as long as a start takes"),
        pytest.param(810_000_000_000, None, 3600, id="what the API server admits"),
        pytest.param(16_000_000_000, 60, 60, id="as the user says"),
        pytest.param(16_000_000_000, 0, 0, id="at once where the user says so"),
    ],
)
def test_a_replica_is_removed_when_the_load_was_low_for_as_long_as_it_takes_to_bring_it_back(
    checkpoint_bytes: int, given: int | None, seconds: int
) -> None:
    for spec in (METRIC, KEDA):
        scaling = {**spec["scaling"], **({} if given is None else {"scaleDownAfterSeconds": given})}
        made = _made({"scaling": scaling}, checkpoint_bytes=checkpoint_bytes)
        if spec is METRIC:
            behavior = made[AUTOSCALER]["spec"]["behavior"]
        else:
            behavior = made[SCALED_OBJECT]["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
            assert made[SCALED_OBJECT]["spec"]["cooldownPeriod"] == seconds
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] == seconds
        (policy,) = behavior["scaleDown"]["policies"]
        assert (policy["type"], policy["value"]) == ("Pods", 1)
        assert "scaleUp" not in behavior


def test_keda_counts_the_requests_of_this_models_pods_where_no_query_is_given() -> None:
    (trigger,) = _made(KEDA)[SCALED_OBJECT]["spec"]["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": 'sum(vllm:num_requests_running{job="models/example"})'
        ' + sum(vllm:num_requests_waiting{job="models/example"})',
        "threshold": "16",
        "activationThreshold": "0",
    }
    assert "authenticationRef" not in trigger


def test_keda_scales_to_zero_on_a_query_of_the_users() -> None:
    keda = {
        "serverAddress": "https://prometheus.example",
        "query": 'sum(rate(gateway_requests{route="example"}[1m]))',
        "averageValue": "0.5",
        "activationValue": "0.01",
        "authenticationRef": "prometheus",
    }
    scaled = _made({"scaling": {"minReplicas": 0, "maxReplicas": 2, "keda": keda}})[SCALED_OBJECT]["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (0, 2)
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["query"] == keda["query"]
    assert (trigger["metadata"]["threshold"], trigger["metadata"]["activationThreshold"]) == ("0.5", "0.01")
    assert trigger["authenticationRef"] == {"name": "prometheus"}


def test_a_route_leads_to_the_service_from_the_gateways_that_are_named() -> None:
    parents = [{"name": "inference", "namespace": "gateways", "sectionName": "https"}]
    route = _made({"gateway": {"parentRefs": parents}, "service": {"port": 80}})[ROUTE]["spec"]
    assert route == {
        "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", **parents[0]}],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [{"group": "", "kind": "Service", "name": "example", "port": 80, "weight": 1}],
            }
        ],
    }


def test_a_path_before_the_engines_own_is_taken_off_and_an_answer_has_the_time_that_it_is_given() -> None:
    gateway = {
        "parentRefs": PARENTS,
        "hostnames": ["llm.example.com"],
        "pathPrefix": "/llama",
        "requestTimeoutSeconds": 0,
    }
    route = _made({"gateway": gateway})[ROUTE]["spec"]
    (rule,) = route["rules"]
    assert route["hostnames"] == ["llm.example.com"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/llama"}}]
    assert rule["filters"] == [
        {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}
    ]
    assert rule["timeouts"] == {"request": "0s"}


def test_a_route_leads_to_the_pool_as_soon_as_there_can_be_one() -> None:
    gateway = {"gateway": {"parentRefs": PARENTS, "inferencePool": POOLED}}
    with_pool, without = _made(gateway), _made(gateway, served=ALL - {POOL})
    assert POOL not in without
    (backend,) = with_pool[ROUTE]["spec"]["rules"][0]["backendRefs"]
    assert backend == {
        "group": "inference.networking.k8s.io",
        "kind": "InferencePool",
        "name": "example",
        "weight": 1,
    }
    assert with_pool[POOL]["metadata"]["name"] == backend["name"]
    assert with_pool[POOL]["apiVersion"].partition("/")[0] == backend["group"]
    (backend,) = without[ROUTE]["spec"]["rules"][0]["backendRefs"]
    assert backend["kind"] == "Service"


def test_a_pool_has_the_pods_at_the_engines_port_and_asks_the_endpoint_picker() -> None:
    pool = {"endpointPicker": {"name": "picker", "port": 9003}, "failureMode": "FailOpen"}
    spec = {"gateway": {"inferencePool": pool}, "service": {"port": 80}}
    workload = workload_of(render(plan_of(), deployment_of(spec), namespace="models", name="example"))
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert _made(spec)[POOL]["spec"] == {
        "selector": {"matchLabels": workload["spec"]["selector"]["matchLabels"]},
        "targetPorts": [{"number": container["ports"][0]["containerPort"]}],
        "endpointPickerRef": {"kind": "Service", "name": "picker", "port": {"number": 9003}, "failureMode": "FailOpen"},
    }


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
    made = {**_made(EVERYTHING), **_made(KEDA)}
    assert set(made) == ALL
    for kind, path in (
        (DISRUPTION_BUDGET, "selector"),
        (NETWORK_POLICY, "podSelector"),
        (POD_MONITOR, "selector"),
        (POOL, "selector"),
    ):
        assert made[kind]["spec"][path]["matchLabels"] == selected
    for obj in made.values():
        (owner,) = obj["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("VLLMDeployment", "uid-1", True)


def test_built_in_objects_are_valid_for_kubernetes() -> None:
    for kind, obj in _made(EVERYTHING).items():
        if kind in BUILT_IN:
            kubernetes_validate.validate(obj, kubernetes_validate.latest_version(), strict=True)


def test_what_is_asked_for_and_has_no_api_is_left_out_with_the_reason_and_the_next_step() -> None:
    for spec, kinds in ((EVERYTHING, ALL - {SCALED_OBJECT}), (KEDA, {SCALED_OBJECT, DISRUPTION_BUDGET, POD_MONITOR})):
        found = _optional(spec, served=frozenset())
        assert found.objects == ()
        assert {left.kind for left in found.left_out} == kinds
        why = {left.kind: left.why for left in found.left_out}
        for kind in kinds & ADDED:
            assert "install" in why[kind]
    assert "monitoring.coreos.com/v1" in why[POD_MONITOR]


def test_what_is_only_wanted_where_possible_is_left_out_without_a_word() -> None:
    assert _optional({}, served=BUILT_IN) == Optional()


def test_without_a_cluster_everything_is_shown_but_what_is_only_wanted_where_possible() -> None:
    assert kinds_without_a_cluster(deployment_of({}).spec) == ALL - {POD_MONITOR}
    assert kinds_without_a_cluster(deployment_of({"monitoring": {"podMonitor": "On"}}).spec) == ALL
    assert kinds_without_a_cluster(deployment_of(KEDA).spec) == ALL


@pytest.mark.parametrize(
    "spec",
    [
        METRIC,
        KEDA,
        {"replicas": 2},
        {"networkPolicy": {}},
        {"monitoring": {"labels": {"a": "b"}}},
        {"gateway": EVERYTHING["gateway"]},
    ],
)
def test_none_of_them_changes_the_pods(spec: dict[str, Any]) -> None:
    def template(spec: dict[str, Any]) -> dict[str, Any]:
        objects = render(plan_of(), deployment_of(spec), namespace="models", name="example")
        pods: dict[str, Any] = next(obj for obj in objects if obj["kind"] == "Deployment")["spec"]["template"]
        return pods

    assert template(spec) == template({})
