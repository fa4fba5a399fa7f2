"""The operator as it is shipped: its image, its chart's default values, its own account, its webhook's Service.

The tests of this file build on each other, as installing, upgrading and uninstalling do.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import Api, Refused, condition
from tests.controlplane.tools import CHART
from tests.e2e.release import NAME, NAMESPACE
from tests.node.layout import ENGINE_IMAGE, NODE_NAME
from tests.node.network import request
from tests.plane.models import LLAMA_8B, LLAMA_405B, deployment

if TYPE_CHECKING:
    from tests.e2e.release import Release

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

USERS = "models"
OWN_KINDS = "all,configmaps,secrets,serviceaccounts,roles,rolebindings,leases,networkpolicies,poddisruptionbudgets"
OF_EVERY_NAMESPACE = ("configmap/kube-root-ca.crt", "serviceaccount/default")
CLUSTER_KINDS = "clusterroles,clusterrolebindings,validatingwebhookconfigurations"


TAKES_OVER_WITHIN_SECONDS = 60
_RECONCILED = re.compile(r'^vllm_operator_reconcile_seconds_count\{result="success"\} [1-9]', re.MULTILINE)


@pytest.fixture(scope="module")
def served(release: Release) -> dict[str, Any]:
    """A user's model that is served, in a namespace that enforces `restricted`, and its pod as it was then."""
    api = Api(release.node)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": USERS, "labels": labels}})
    little = {"containers": [{"name": "engine", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]}
    api.create(
        deployment(
            USERS,
            model=LLAMA_8B,
            workload={"contextLength": 4096},
            engine={"image": ENGINE_IMAGE, "version": "0.32.0"},
            podTemplate={"spec": little},
        )
    )
    api.wait("VLLMDeployment", "model", is_ready, USERS, seconds=60)
    return untouched(api)


def is_ready(obj: dict[str, Any]) -> bool:
    return bool(condition(obj, "Ready").get("status") == "True")


def untouched(api: Api) -> dict[str, Any]:
    """Return what must stay as it is of a model that keeps running: its pod, its restarts, its template."""
    (pod,) = api.list("Pod", USERS)
    return {
        "pod": pod["metadata"]["uid"],
        "restarts": pod["status"]["containerStatuses"][0]["restartCount"],
        "template": api.get("Deployment", "model", USERS)["spec"]["template"],
        "generation": api.get("Deployment", "model", USERS)["metadata"]["generation"],
        "plan": api.get("VLLMDeployment", "model", USERS)["status"]["plan"],
    }


def test_the_chart_says_what_uninstalling_keeps(release: Release) -> None:
    notes = release.helm("get", "notes", NAME)
    assert "Uninstalling this chart keeps the CRD, your VLLMDeployments and their running models" in notes


def test_helm_test_reads_the_nodes_with_the_operators_own_account(release: Release) -> None:
    said = release.helm("test", NAME, "--logs", "--timeout=1m")
    assert "Succeeded" in said
    assert NODE_NAME in said
    assert "L4" in said


def test_the_webhook_refuses_through_its_service(release: Release, api: Api) -> None:
    webhook = api.get("ValidatingWebhookConfiguration", NAME)["webhooks"][0]["clientConfig"]
    assert webhook["service"]["name"] == f"{NAME}-webhook"
    assert "url" not in webhook
    with pytest.raises(Refused) as refused:
        api.create(deployment("default", name="too-large", model=LLAMA_405B))
    assert 'admission webhook "feasibility.vllm-operator.io" denied the request' in refused.value.message
    assert "GiB" in refused.value.message


def test_a_model_becomes_a_pod_that_is_served(served: dict[str, Any]) -> None:
    assert served["restarts"] == 0


def test_an_upgrade_and_a_rollback_leave_running_models_alone(
    release: Release, api: Api, served: dict[str, Any], next_build: str
) -> None:
    for step in (
        ("upgrade", NAME, "--reuse-values", f"--set=image.tag={next_build}", str(CHART)),
        ("rollback", NAME, "1"),
    ):
        release.helm(*step, "--wait", "--timeout=2m")
        pod = _operator_pod(api)
        assert pod["spec"]["containers"][0]["image"].endswith(f":{next_build}") == (step[0] == "upgrade")
        _wait_until_it_has_reconciled(release, pod)
        assert untouched(api) == served


def test_uninstalling_takes_all_that_it_made_and_nothing_of_the_users(
    release: Release, api: Api, served: dict[str, Any]
) -> None:
    pod = _operator_pod(api)["metadata"]["name"]
    release.helm("uninstall", NAME, "--wait", "--timeout=1m")
    api.wait_gone("Pod", pod, NAMESPACE, seconds=60)

    left = release.kubectl("get", OWN_KINDS, f"--namespace={NAMESPACE}", "--output=name").split()
    assert [name for name in left if name not in OF_EVERY_NAMESPACE] == []
    left = release.kubectl("get", CLUSTER_KINDS, "--output=name").split()
    assert [name for name in left if NAME in name] == []
    assert api.get("CustomResourceDefinition", "vllmdeployments.vllm-operator.io")
    assert untouched(api) == served


def _operator_pod(api: Api) -> dict[str, Any]:
    (pod,) = [pod for pod in api.list("Pod", NAMESPACE) if "deletionTimestamp" not in pod["metadata"]]
    return pod


def _wait_until_it_has_reconciled(release: Release, pod: dict[str, Any]) -> None:
    """Wait until this operator leads and has looked at the one model that there is."""
    address = f"{pod['status']['podIP']}:8080"
    deadline = time.monotonic() + TAKES_OVER_WITHIN_SECONDS
    while not _RECONCILED.search(request(release.node.pid, "GET", address, "/metrics")[1]):
        assert time.monotonic() < deadline, release.log()
        time.sleep(0.5)
