"""What the rendered objects promise: placement, security, drain, ownership, and a model that really is served."""

from __future__ import annotations

import json
import logging.config
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.render.plans import deployment_of, plan_of

from vllm_operator.render.last_words import TERMINATION_LOG
from vllm_operator.render.objects import NotRenderable, render

if TYPE_CHECKING:
    from pathlib import Path


def _objects(spec: dict[str, Any] | None = None, *, uid: str | None = None, **plan: Any) -> dict[str, dict[str, Any]]:
    objects = render(plan_of(**plan), deployment_of(spec or {}), namespace="models", name="example", uid=uid)
    return {obj["kind"]: obj for obj in objects}


def _pod(spec: dict[str, Any] | None = None, **plan: Any) -> dict[str, Any]:
    template: dict[str, Any] = _objects(spec, **plan)["Deployment"]["spec"]["template"]
    return template


def _engine(spec: dict[str, Any] | None = None, **plan: Any) -> dict[str, Any]:
    engine: dict[str, Any] = _pod(spec, **plan)["spec"]["containers"][0]
    return engine


def _environment(spec: dict[str, Any] | None = None) -> dict[str, Any]:
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in _engine(spec)["env"]}


def test_a_plan_without_a_place_is_not_rendered() -> None:
    unplaced = replace(plan_of(), placement=None, message="no node offers nvidia.com/gpu")
    with pytest.raises(NotRenderable, match="no node offers"):
        render(unplaced, deployment_of({}), namespace="models", name="example")


@pytest.mark.parametrize("gpus", [1, 2, 8])
def test_gpus_are_requested_and_limited_alike(gpus: int) -> None:
    resources = _engine(gpus=gpus)["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == str(gpus)


def test_memory_and_cpu_are_requested_but_not_limited() -> None:
    resources = _engine(gpus=4)["resources"]
    assert (resources["requests"]["cpu"], resources["requests"]["memory"]) == ("5", "10Gi")
    assert set(resources["limits"]) == {"nvidia.com/gpu"}


def test_each_node_group_is_one_term_of_the_affinity() -> None:
    pod = _pod(node_terms=({"product": ("A",)}, {"product": ("B",), "count": ("8",)}))["spec"]
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [[e["key"] for e in term["matchExpressions"]] for term in terms] == [["product"], ["count", "product"]]


def test_without_terms_there_is_no_affinity() -> None:
    assert "affinity" not in _pod(node_terms=())["spec"]


def test_the_taint_named_like_the_resource_is_tolerated_before_the_users() -> None:
    own = {"key": "team", "operator": "Equal", "value": "a"}
    tolerations = _pod({"gpu": {"tolerations": [own]}}, resource_name="amd.com/gpu")["spec"]["tolerations"]
    assert tolerations == [{"key": "amd.com/gpu", "operator": "Exists"}, own]


def test_the_pod_is_restricted() -> None:
    pod, engine = _pod()["spec"], _engine()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
    assert engine["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_every_writable_path_of_the_environment_is_a_volume() -> None:
    mounts = [mount["mountPath"] for mount in _engine()["volumeMounts"] if not mount.get("readOnly")]
    paths = [str(value) for value in _environment().values() if str(value).startswith("/")]
    unwritable = [path for path in paths if not path.startswith(tuple(mounts))]
    assert unwritable == ["/etc/vllm-operator/logging.json"]


@pytest.mark.parametrize(("gpus", "size"), [(1, "2Gi"), (8, "9Gi")])
def test_shared_memory_grows_with_the_gpus(gpus: int, size: str) -> None:
    volumes = {volume["name"]: volume for volume in _pod(gpus=gpus)["spec"]["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": size}


def test_the_token_is_only_ever_a_reference() -> None:
    spec = {"model": {"uri": "org/name", "tokenSecretRef": {"name": "hf", "key": "token"}}}
    assert _environment(spec)["HF_TOKEN"] == {"secretKeyRef": {"name": "hf", "key": "token"}}


def test_without_a_token_none_is_asked_for() -> None:
    assert "HF_TOKEN" not in _environment()


@pytest.mark.parametrize(
    ("uri", "offline"),
    [("org/name", False), ("hf://org/name", False), ("pvc://claim/a", True), ("oci://image", True), ("s3://a/b", True)],
)
def test_the_hub_is_off_limits_where_nothing_comes_from_it(uri: str, offline: bool) -> None:
    assert ("HF_HUB_OFFLINE" in _environment({"model": {"uri": uri}})) is offline


def test_an_adapter_from_the_hub_keeps_it_open() -> None:
    lora = {"adapters": [{"name": "a", "uri": "org/adapter"}]}
    assert "HF_HUB_OFFLINE" not in _environment({"model": {"uri": "pvc://claim/a"}, "engine": {"lora": lora}})


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("pvc://claim/a/b", {"persistentVolumeClaim": {"claimName": "claim", "readOnly": True}}),
        ("oci://registry/m:1", {"image": {"reference": "registry/m:1", "pullPolicy": "IfNotPresent"}}),
    ],
)
def test_a_model_on_a_volume_is_mounted_read_only(uri: str, source: dict[str, Any]) -> None:
    pod = _pod({"model": {"uri": uri}})["spec"]
    assert {"name": "model", **source} in pod["volumes"]
    assert {"name": "model", "mountPath": "/models", "readOnly": True} in pod["containers"][0]["volumeMounts"]


def test_the_users_variable_wins() -> None:
    environment = _environment({"engine": {"env": [{"name": "HOME", "value": "/cache"}]}})
    assert environment["HOME"] == "/cache"


def test_the_model_is_served_under_the_resources_name() -> None:
    assert _engine()["args"][:3] == ["org/name", "--served-model-name", "example"]


def test_a_name_of_the_users_is_not_set_twice() -> None:
    spec = {"model": {"uri": "org/name", "servedName": "mine"}}
    assert "--served-model-name" not in _engine(spec)["args"]


def test_what_the_user_appended_stays_last() -> None:
    args = ("org/name", "--max-model-len", "8192", "--middleware", "a", "b")
    assert _engine(args=args)["args"][-3:] == ["--middleware", "a", "b"]


@pytest.mark.parametrize(("version", "has"), [("0.33.0", True), ("0.32.0", True), ("0.8.5", False)])
def test_requests_are_finished_where_the_release_can(version: str, has: bool) -> None:
    assert ("--shutdown-timeout" in _engine(engine_version=version)["args"]) is has


def test_a_drain_has_the_time_that_it_needs() -> None:
    pod, engine = _pod()["spec"], _engine()
    sleep = engine["lifecycle"]["preStop"]["sleep"]["seconds"]
    finish = int(engine["args"][engine["args"].index("--shutdown-timeout") + 1])
    assert pod["terminationGracePeriodSeconds"] >= sleep + finish + 10


def test_a_pod_has_started_when_the_model_is_listed() -> None:
    assert _engine()["startupProbe"]["httpGet"] == {"path": "/v1/models", "port": "http"}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"engine": {"env": [{"name": "VLLM_API_KEY", "value": "k"}]}}, id="variable"),
        pytest.param(
            {"podTemplate": {"spec": {"containers": [{"name": "engine", "envFrom": [{"secretRef": {"name": "s"}}]}]}}},
            id="unseen-variables",
        ),
    ],
)
def test_a_server_that_wants_a_key_is_asked_for_its_health_alone(spec: dict[str, Any]) -> None:
    assert _engine(spec)["startupProbe"]["httpGet"]["path"] == "/health"


def test_the_rollout_outlasts_the_startup_probe() -> None:
    deployment, probe = _objects()["Deployment"]["spec"], _engine()["startupProbe"]
    assert deployment["progressDeadlineSeconds"] > probe["failureThreshold"] * probe["periodSeconds"]


@pytest.mark.parametrize(
    ("cache", "reserved"),
    [
        pytest.param({}, None, id="no size is known"),
        pytest.param({"size": "40Gi"}, "40Gi", id="in the pod"),
        pytest.param({"type": "PersistentVolumeClaim", "size": "40Gi"}, None, id="on a claim"),
        pytest.param({"type": "HostPath", "hostPath": "/models", "size": "40Gi"}, None, id="on the node"),
    ],
)
def test_downloads_into_the_pod_reserve_the_disk_that_their_user_says_they_take(
    cache: dict[str, str], reserved: str | None
) -> None:
    pod = _pod({"cache": cache})
    (engine,) = pod["spec"]["containers"]
    assert engine["resources"]["requests"].get("ephemeral-storage") == reserved
    assert "ephemeral-storage" not in engine["resources"]["limits"]
    if reserved is not None:
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert volumes["cache"]["emptyDir"]["sizeLimit"] == reserved


IN_PLACE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
WITH_SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


@pytest.mark.parametrize(
    ("strategy", "has_room", "expected", "why"),
    [
        ("Auto", False, IN_PLACE, "in place"),
        ("Auto", True, WITH_SURGE, "free GPUs for one more"),
        ("RollingUpdate", False, WITH_SURGE, "spec.rollout.strategy"),
        ("RollingUpdate", True, WITH_SURGE, "spec.rollout.strategy"),
        ("Recreate", True, {"type": "Recreate"}, "spec.rollout.strategy"),
    ],
)
def test_the_rollout_strategy_is_stated_with_its_reason(
    strategy: str, has_room: bool, expected: dict[str, Any], why: str
) -> None:
    deployment = _objects({"rollout": {"strategy": strategy}}, has_room_for_surge=has_room)["Deployment"]
    assert deployment["spec"]["strategy"] == expected
    assert why in deployment["metadata"]["annotations"]["vllm-operator.io/rollout"]


@pytest.mark.parametrize(
    ("spec", "replicas"), [({}, 1), ({"replicas": 0}, 0), ({"replicas": 3}, 3), ({"scaling": {"maxReplicas": 4}}, None)]
)
def test_replicas_are_ours_only_when_nobody_scales(spec: dict[str, Any], replicas: int | None) -> None:
    assert _objects(spec)["Deployment"]["spec"].get("replicas") == replicas


def test_every_object_is_owned_by_the_deployment() -> None:
    objects = _objects({"cache": {"type": "PersistentVolumeClaim", "size": "1Gi"}}, uid="1234")
    assert set(objects) == {"PersistentVolumeClaim", "Deployment", "Service"}
    for obj in objects.values():
        (owner,) = obj["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("VLLMDeployment", "1234", True)
        assert owner["blockOwnerDeletion"] is True


def test_the_workload_and_its_pods_carry_the_plans_hash() -> None:
    carriers = [_objects()["Deployment"], _pod()]
    hashes = {carrier["metadata"]["annotations"]["vllm-operator.io/plan-hash"] for carrier in carriers}
    assert hashes == {"0123456789abcdef"}


def test_another_plan_changes_no_object_but_the_workload() -> None:
    spec = {"cache": {"type": "PersistentVolumeClaim", "size": "1Gi"}}
    plans = plan_of(), replace(plan_of(args=("org/name", "--max-model-len", "4096")), hash="fedcba9876543210")
    before, after = (render(plan, deployment_of(spec), namespace="models", name="example") for plan in plans)
    assert {new["kind"] for old, new in zip(before, after, strict=True) if old != new} == {"Deployment"}


def test_the_service_finds_the_pods() -> None:
    objects = _objects()
    assert objects["Service"]["spec"]["selector"].items() <= _pod()["metadata"]["labels"].items()
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == objects["Service"]["spec"]["selector"]


def test_the_service_changes_without_restarting_the_model() -> None:
    assert _pod({"service": {"port": 80, "type": "NodePort"}}) == _pod()


def test_the_logging_file_is_the_pods_own_annotation() -> None:
    pod = _pod()
    (volume,) = (volume for volume in pod["spec"]["volumes"] if volume["name"] == "engine-config")
    path = volume["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"]
    name = re.fullmatch(r"metadata\.annotations\['(.+)'\]", path)
    assert name is not None
    assert json.loads(pod["metadata"]["annotations"][name[1]])["version"] == 1


def _logging(spec: dict[str, Any] | None = None) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(_pod(spec)["metadata"]["annotations"]["vllm-operator.io/logging-config"])
    return config


def test_errors_of_the_engine_reach_the_termination_log(tmp_path: Path) -> None:
    config = _logging()
    assert config["handlers"]["last_words"]["filename"] == TERMINATION_LOG
    config["handlers"]["last_words"]["filename"] = str(tmp_path / "log")
    config["formatters"]["vllm"]["class"] = "logging.Formatter"  # vLLM's own is not installed here
    logging.config.dictConfig(config)
    try:
        logging.getLogger("vllm.v1.engine.core").info("loading")
        logging.getLogger("vllm.v1.engine.core").error("estimated maximum model length is 896")
        assert "896" in (tmp_path / "log").read_text()
        assert "loading" not in (tmp_path / "log").read_text()
    finally:
        for name in ("vllm", "uvicorn"):
            for handler in list(logging.getLogger(name).handlers):
                logging.getLogger(name).removeHandler(handler)
                handler.close()


def test_the_users_log_level_still_counts() -> None:
    config = _logging({"engine": {"env": [{"name": "VLLM_LOGGING_LEVEL", "value": "debug"}]}})
    assert config["loggers"]["vllm"]["level"] == config["handlers"]["console"]["level"] == "DEBUG"
