"""The chart is installed, upgraded and uninstalled by Helm on the real API server.

KWOK pretends to run its pod; that the pod really works is shown where the operator runs as the chart's ServiceAccount.
"""

from __future__ import annotations

import base64
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from tests.controlplane.tools import CHART, helm
from tests.plane.models import LLAMA_8B, deployment

from vllm_operator.api.observations import DATA_KEY, write_observations
from vllm_operator.runtime.certificates import issue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

RELEASE = "chart-test"
NAME = "chart-test-vllm-operator"
CA_BUNDLE = base64.b64encode(issue(["webhook"], valid=timedelta(days=1), now=datetime.now(UTC)).bundle).decode()


@pytest.fixture
def run_helm(scene: Scene, namespace: str) -> Iterator[Callable[..., str]]:
    """Install the chart with default values into the test's namespace; returns a way to run Helm on it."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(helm()), *arguments, f"--kubeconfig={scene.plane.kubeconfig}", f"--namespace={namespace}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("install", RELEASE, str(CHART))
    yield run
    run("uninstall", RELEASE, "--ignore-not-found")


def test_default_values_install_and_the_pod_is_admitted_under_restricted(
    scene: Scene, api: Api, namespace: str, run_helm: Callable[..., str]
) -> None:
    scene.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    scene.kubectl("rollout", "restart", f"deployment/{NAME}", f"--namespace={namespace}")
    installed = api.wait("Deployment", NAME, lambda obj: (obj["status"].get("replicas") or 0) >= 1, namespace)
    conditions = {entry["type"]: entry["status"] for entry in installed["status"]["conditions"]}
    assert conditions.get("ReplicaFailure") is None
    webhook = api.get("ValidatingWebhookConfiguration", NAME)["webhooks"][0]
    assert webhook["clientConfig"]["service"]["name"] == f"{NAME}-webhook"
    assert webhook["failurePolicy"] == "Ignore"


def test_an_upgrade_keeps_the_certificate_that_the_operator_has_made(
    api: Api, namespace: str, run_helm: Callable[..., str]
) -> None:
    made = {"ca.crt": "Y2E=", "tls.crt": "Y2VydA==", "tls.key": "a2V5"}
    api.patch("Secret", f"{NAME}-webhook-tls", {"data": made}, namespace)
    webhooks = api.get("ValidatingWebhookConfiguration", NAME)["webhooks"]
    webhooks[0]["clientConfig"]["caBundle"] = CA_BUNDLE
    api.patch("ValidatingWebhookConfiguration", NAME, {"webhooks": webhooks})

    run_helm("upgrade", RELEASE, str(CHART), "--set=logLevel=debug")

    assert api.get("Secret", f"{NAME}-webhook-tls", namespace)["data"] == made
    assert api.get("ValidatingWebhookConfiguration", NAME)["webhooks"][0]["clientConfig"]["caBundle"] == CA_BUNDLE


def test_an_upgrade_keeps_what_was_observed_and_uninstalling_takes_it_away(
    api: Api, namespace: str, run_helm: Callable[..., str]
) -> None:
    kept = {DATA_KEY: write_observations([])}
    api.patch("ConfigMap", f"{NAME}-observations", {"data": kept}, namespace)

    run_helm("upgrade", RELEASE, str(CHART), "--set=logLevel=debug")
    assert api.get("ConfigMap", f"{NAME}-observations", namespace)["data"] == kept

    run_helm("uninstall", RELEASE)
    assert api.find("ConfigMap", f"{NAME}-observations", namespace) is None


def test_uninstalling_keeps_the_crd_and_what_users_made(api: Api, namespace: str, run_helm: Callable[..., str]) -> None:
    api.create(deployment(namespace, model=LLAMA_8B, workload={"contextLength": 4096}))

    run_helm("uninstall", RELEASE)

    assert api.find("Deployment", NAME, namespace) is None
    assert api.find("ValidatingWebhookConfiguration", NAME) is None
    assert api.get("CustomResourceDefinition", "vllmdeployments.vllm-operator.io")
    assert api.get("VLLMDeployment", "model", namespace)["spec"]["model"]["uri"] == LLAMA_8B
