"""The operator's ServiceAccount has exactly the rights that it uses: the chart's rules against the audit log."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from tests.controlplane import foreign_kinds
from tests.controlplane.scene import INSTALL, NAMESPACE, SERVICE_ACCOUNT
from tests.controlplane.waiting import wait_until
from tests.plane.machines import gpu_node
from tests.plane.models import LLAMA_405B, QWEN_8B, config_of, deployment
from tests.plane.test_verdicts import WORKLOAD

from vllm_operator.runtime.declared import SOURCES
from vllm_operator.runtime.kube import BY_KIND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

    from vllm_operator.runtime.kube import Resource

pytestmark = pytest.mark.control_plane

SET = "LeaderWorkerSet"
POOL = {"pool": "rights"}
USER = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
CAPACITY = {
    (resource.api_version.rpartition("/")[0], resource.plural) for source in SOURCES for resource in source.versions
}


class Right(NamedTuple):
    """One verb on one resource."""

    group: str
    resource: str
    verb: str


@pytest.fixture(scope="module")
def sets(scene: Scene) -> Iterator[None]:
    """LeaderWorkerSets, and two nodes of which no single one holds the largest model."""
    nodes = [gpu_node(f"rights-{number}", gpus=8, labels=POOL) for number in range(2)]
    ours = [] if foreign_kinds.present(scene.api, [SET]) else [SET]
    foreign_kinds.install(scene.api, ours)
    for node in nodes:
        scene.api.create(node)
    yield
    for node in nodes:
        scene.api.delete("Node", node["metadata"]["name"])
    foreign_kinds.remove(scene.api, ours)


@pytest.fixture(scope="module")
def used(scene: Scene, sets: None, foreign: None) -> Iterator[set[Right]]:
    """Everything that the operator has done in this run, after a life of resources that have all there is."""
    api = scene.api
    if not scene.plane.disposable:
        pytest.skip("a cluster of somebody else has no audit log that we could read")
    name = "t-rights"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    _lives(api, name)
    _spreads(api, name)
    yield set(_audited(scene))
    api.delete("Namespace", name)


def _lives(api: Api, namespace: str) -> None:
    token = base64.b64encode(b"hf_token").decode()
    api.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "hub", "namespace": namespace},
            "data": {"token": token},
        }
    )
    config = {"config.json": config_of(QWEN_8B).decode()}
    facts = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "facts", "namespace": namespace},
        "data": config,
    }
    api.create(facts)
    model = {"uri": QWEN_8B, "tokenSecretRef": {"name": "hub", "key": "token"}}
    sections: dict[str, Any] = {
        "workload": {"contextLength": 4096},
        "cache": {"type": "PersistentVolumeClaim", "size": "20Gi"},
        "monitoring": {"podMonitor": "On"},
        "networkPolicy": {"allowedNamespaces": {"kubernetes.io/metadata.name": "gateways"}},
    }
    by_metric = {
        "minReplicas": 1,
        "maxReplicas": 2,
        "metric": {"name": "vllm_num_requests_waiting", "averageValue": "5"},
    }
    keda = {"serverAddress": "http://prometheus.monitoring:9090", "query": "sum(up)", "averageValue": "1"}
    gateway = {"parentRefs": [{"name": "inference", "namespace": "gateways"}]}
    picked = {**gateway, "inferencePool": {"endpointPicker": {"name": "picker"}}}
    wishes = {
        "by-metric": {"scaling": by_metric, "gateway": gateway},
        "by-keda": {"scaling": {"minReplicas": 0, "maxReplicas": 2, "keda": keda}, "gateway": picked},
        "by-hand": {"replicas": 2},
    }
    for name, wish in wishes.items():
        api.create(deployment(namespace, name=name, model=model, **sections, **wish))
    api.create(deployment(namespace, name="by-facts", model={"uri": "org/private", "configRef": {"name": "facts"}}))
    api.wait("Deployment", "by-facts", lambda _: True, namespace)
    for name, kinds in {
        "by-metric": ("HorizontalPodAutoscaler", "HTTPRoute", "PodMonitor", "NetworkPolicy", "PersistentVolumeClaim"),
        "by-keda": ("ScaledObject", "InferencePool"),
        "by-hand": ("PodDisruptionBudget", "Service"),
    }.items():
        for kind in kinds:
            made = f"{name}-cache" if kind == "PersistentVolumeClaim" else name
            api.wait(kind, made, lambda _: True, namespace)
    # What is edited is restored, what is not wanted any more is removed, and all of it goes with its owner.
    for name in wishes:
        spec = {"scaling": None, "gateway": None, "networkPolicy": None, "replicas": 1}
        api.patch("VLLMDeployment", name, {"spec": {**spec, "monitoring": {"podMonitor": "Off"}}}, namespace)
    api.patch("VLLMDeployment", "by-metric", {"spec": {"cache": {"type": "EmptyDir", "size": None}}}, namespace)
    api.wait_gone("PersistentVolumeClaim", "by-metric-cache", namespace)
    for kind, name in (
        ("HorizontalPodAutoscaler", "by-metric"),
        ("HTTPRoute", "by-metric"),
        ("PodMonitor", "by-metric"),
        ("NetworkPolicy", "by-metric"),
        ("ScaledObject", "by-keda"),
        ("InferencePool", "by-keda"),
        ("PodDisruptionBudget", "by-hand"),
    ):
        api.wait_gone(kind, name, namespace)


def _spreads(api: Api, namespace: str) -> None:
    """A model that needs two nodes becomes one that needs one, and the other way round."""
    wanted = deployment(namespace, name="large", model=LLAMA_405B, workload=WORKLOAD, gpu={"nodeSelector": POOL})
    api.create(wanted)
    api.wait(SET, "large", bool, namespace)
    api.patch("VLLMDeployment", "large", {"spec": {"model": {"uri": QWEN_8B}}}, namespace)
    api.wait("Deployment", "large", bool, namespace)
    api.wait_gone(SET, "large", namespace)
    api.patch("VLLMDeployment", "large", {"spec": {"model": {"uri": LLAMA_405B}}}, namespace)
    api.wait_gone("Deployment", "large", namespace)


def _audited(scene: Scene) -> Iterator[Right]:
    for line in scene.plane.audit_log.read_text().splitlines():
        event = json.loads(line)
        about = event.get("objectRef")
        if about is None or event["user"]["username"] != USER:
            continue
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        code = (event.get("responseStatus") or {}).get("code", 0)
        yield Right(about.get("apiGroup", ""), resource, event["verb"])
        if event["verb"] == "patch" and code == 201:
            yield Right(about.get("apiGroup", ""), resource, "create")


def granted() -> set[Right]:
    documents = list(filter(None, yaml.safe_load_all(INSTALL.read_text())))
    # Those of users are bound to nobody.
    bound = {obj["roleRef"]["name"] for obj in documents if obj["kind"] in ("ClusterRoleBinding", "RoleBinding")}
    roles = [obj for obj in documents if obj["kind"] in ("ClusterRole", "Role") and obj["metadata"]["name"] in bound]
    return {
        Right(group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_every_right_is_used_and_nothing_is_refused(used: set[Right]) -> None:
    # Watched only where these APIs are: tests/plane/test_declared_capacity.py installs them one by one.
    of_other_projects = {right for right in granted() if (right.group, right.resource) in CAPACITY}
    # Read only when an object of that name is somebody else's: shown in tests/plane/test_quiet.py.
    of_conflicts = {_right(kind, "get") for kind in BY_KIND.values()}
    # What vLLM reports is kept: shown in tests/plane/test_observed.py.
    of_observations = {Right("", "configmaps", "update")}
    # Asked by the API server itself, for owner references that block their owner's deletion.
    implied = {Right("vllm-operator.io", "vllmdeployments/finalizers", "update")}
    unused = granted() - used - of_other_projects - of_conflicts - of_observations - implied
    assert [" ".join(right) for right in sorted(unused)] == []
    assert [" ".join(right) for right in sorted(used - granted())] == []


@pytest.mark.parametrize(
    ("role", "verbs", "allowed"),
    [
        ("view", ("get", "list", "watch"), True),
        ("view", ("create", "patch", "delete"), False),
        ("edit", ("get", "create", "patch", "update", "delete"), True),
        ("admin", ("create", "delete"), True),
    ],
)
def test_kubernetes_own_roles_cover_the_resource_in_their_namespace(
    scene: Scene, namespace: str, role: str, verbs: tuple[str, ...], allowed: bool
) -> None:
    user = f"user-of-{namespace}"
    scene.kubectl("create", "rolebinding", "users", f"--clusterrole={role}", f"--user={user}", f"-n={namespace}")

    def may(verb: str, where: str) -> bool:
        asked = scene.kubectl("auth", "can-i", verb, "vd", f"--as={user}", f"-n={where}", check=False)
        return asked.stdout.strip() == "yes"

    # Bindings and aggregated roles reach the authorizer a moment later.
    wait_until(lambda: may("get", namespace), "the user's rights")
    for verb in verbs:
        wait_until(lambda verb=verb: may(verb, namespace) is allowed, f"{verb}: {allowed}")
        assert not may(verb, "default")


def _right(resource: Resource, verb: str) -> Right:
    return Right(resource.api_version.rpartition("/")[0], resource.plural, verb)
