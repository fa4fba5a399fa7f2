"""An operator of one namespace works with the chart's Role there, and touches nothing elsewhere."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.controlplane.client import condition
from tests.controlplane.plane import service_account_token
from tests.controlplane.tools import helm_template
from tests.plane.events import events_told
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

ACCOUNT = "vllm-operator"
RIGHTS = frozenset({"ClusterRole", "ClusterRoleBinding", "Lease", "Role", "RoleBinding", "ServiceAccount"})


@pytest.fixture
def home(api: Api) -> Iterator[str]:
    """The namespace of that operator."""
    name = f"home-{uuid.uuid4().hex[:8]}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    api.delete("Namespace", name)


@pytest.fixture
def confined(scene: Scene, api: Api, namespace: str, home: str) -> Iterator[Scene]:
    """The usual operator stands aside for one that the chart has confined to the test's namespace."""
    rendered = helm_template(
        f"--namespace={home}",
        f"--set=watchNamespaces={{{namespace}}}",
        f"--set=fullnameOverride={home}",
        f"--set=serviceAccount.name={ACCOUNT}",
        "--set=webhook.enabled=false",
    )
    objects = [obj for obj in yaml.safe_load_all(rendered) if obj]
    text = yaml.safe_dump_all([obj for obj in objects if obj["kind"] in RIGHTS])
    scene.kubectl("apply", "--server-side", "-f", "-", text=text)
    token = service_account_token(scene.plane, home, ACCOUNT)
    kubeconfig = scene.plane.kubeconfig_for("confined", token=token)
    operator = scene.replica("vllm-operator-confined", kubeconfig=kubeconfig)
    operator.environment = {**scene.environment, **_variables(objects), "VLLM_OPERATOR_NAMESPACE": home}
    scene.stop_operator()
    try:
        yield operator
    finally:
        if operator.process is not None:
            operator.stop_operator()
        scene.start_operator()
        scene.kubectl("delete", "--ignore-not-found", "-f", "-", text=text)


def _variables(objects: list[dict[str, Any]]) -> dict[str, str]:
    """Return what the chart tells its container, but for the addresses, which are of this machine here."""
    (workload,) = (obj for obj in objects if obj["kind"] == "Deployment")
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    stated = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    return {name: value for name, value in stated.items() if not name.endswith(("_PORT", "_HOST"))}


def test_a_role_is_enough_where_it_is_and_gives_nothing_elsewhere(
    scene: Scene, api: Api, namespace: str, home: str, confined: Scene
) -> None:
    elsewhere = deployment(home, name="elsewhere", model=LLAMA_8B, workload=WORKLOAD)
    api.create(elsewhere)
    confined.start_operator()
    api.create(
        deployment(
            namespace,
            model=LLAMA_8B,
            workload=WORKLOAD,
            gpu={"products": ["*H100*"]},
            replicas=2,
            cache={"type": "EmptyDir"},
            networkPolicy={"allowedNamespaces": {"team": "gateway"}},
        )
    )

    api.wait("VLLMDeployment", "model", is_ready, namespace)
    for kind in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"):
        assert api.get(kind, "model", namespace)
    assert events_told(api, namespace, "ModelServed")
    assert not condition(api.get("VLLMDeployment", "elsewhere", home), "Ready")
    assert api.find("Deployment", "elsewhere", home) is None
    assert "403 Forbidden" not in confined.operator_log()

    def may(verb: str, resource: str, where: str) -> bool:
        user = f"--as=system:serviceaccount:{home}:{ACCOUNT}"
        answer = scene.kubectl("auth", "can-i", verb, resource, f"--namespace={where}", user, check=False)
        return answer.stdout.strip() == "yes"

    assert may("patch", "deployments.apps", namespace)
    assert not may("patch", "deployments.apps", home)
    assert not may("get", "secrets", home)
    assert not may("list", "secrets", namespace)
    assert not may("delete", "vllmdeployments.vllm-operator.io", namespace)
    assert not may("create", "rolebindings.rbac.authorization.k8s.io", namespace)
