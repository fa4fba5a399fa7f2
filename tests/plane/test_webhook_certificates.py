"""The operator keeps its webhook's certificate itself: two replicas, a real API server that calls them over TLS."""

from __future__ import annotations

import base64
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography import x509
from tests.controlplane.client import Refused
from tests.controlplane.plane import service_account_token
from tests.controlplane.scene import NAMESPACE, Scene
from tests.controlplane.tools import helm_template
from tests.plane.models import LLAMA_8B, deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api

pytestmark = pytest.mark.control_plane

NAME = "self-managed"
SECRET = f"{NAME}-webhook-tls"
LIFE_SECONDS = 15
"""Renewed after ten of them, served two later, three before the old one ends."""
KINDS = ("Secret", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


@pytest.fixture(scope="module")
def replicas(scene: Scene) -> Iterator[tuple[Scene, Scene]]:
    """Two replicas with the chart's default rights, which follow the operator that leads; they serve a webhook."""
    chart = list(filter(None, yaml.safe_load_all(helm_template(f"--set=fullnameOverride={NAME}"))))
    objects = [entry for entry in chart if entry["kind"] in KINDS]
    (webhook,) = (entry for entry in chart if entry["kind"] == "ValidatingWebhookConfiguration")
    pair = tuple(_replica(scene, number) for number in range(2))
    webhook["webhooks"][0] |= {
        "name": "self-managed.vllm-operator.io",
        "failurePolicy": "Fail",
        "clientConfig": {"url": f"https://127.0.0.1:{pair[0].webhook_port}/feasibility"},
        "namespaceSelector": {"matchLabels": {"certificates": "self-managed"}},
    }
    objects.append(webhook)
    scene.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump_all(objects))
    scene.kubectl(
        "create",
        "rolebinding",
        f"{NAME}-follows",
        f"--namespace={NAMESPACE}",
        "--role=vllm-operator-own",
        f"--serviceaccount={NAMESPACE}:{NAME}",
    )
    token = service_account_token(scene.plane, NAMESPACE, NAME)
    try:
        for replica in pair:
            replica.operator_kubeconfig = scene.plane.kubeconfig_for(NAME, token=token)
            replica.start_operator()
        yield pair[0], pair[1]
    finally:
        for replica in pair:
            replica.close()
        scene.kubectl("delete", "rolebinding", f"{NAME}-follows", f"--namespace={NAMESPACE}", "--ignore-not-found")
        scene.kubectl("delete", "--ignore-not-found", "-f", "-", text=yaml.safe_dump_all(objects))


def _replica(scene: Scene, number: int) -> Scene:
    directory = scene.plane.directory / f"{NAME}-{number}"
    replica = Scene(
        scene.plane,
        environment={
            **scene.environment,
            "VLLM_OPERATOR_POD_NAME": f"{NAME}-{number}",
            "VLLM_OPERATOR_WEBHOOK_CERT_DIR": str(directory),
            "VLLM_OPERATOR_WEBHOOK_CERT_SECRET": SECRET,
            "VLLM_OPERATOR_WEBHOOK_CERT_DAYS": str(LIFE_SECONDS / 86400),
            "VLLM_OPERATOR_WEBHOOK_CONFIGURATION": NAME,
            "VLLM_OPERATOR_WEBHOOK_NAMES": "127.0.0.1",
        },
    )
    replica.certificates = directory
    replica.log = scene.plane.directory / f"{NAME}-{number}.log"
    return replica


@pytest.fixture
def asked(scene: Scene, namespace: str) -> dict[str, Any]:
    """A resource about which only the replicas' webhook, and that of the operator that leads, is asked."""
    scene.kubectl("label", "namespace", namespace, "certificates=self-managed")
    return deployment(namespace, model=LLAMA_8B, workload={"contextLength": 4096})


def served(replica: Scene) -> bytes:
    """Return the serial number of what a replica's webhook serves."""
    text = ssl.get_server_certificate(("127.0.0.1", replica.webhook_port), timeout=5)
    return x509.load_pem_x509_certificate(text.encode()).serial_number.to_bytes(20, "big")


def held(api: Api) -> dict[str, Any]:
    data: dict[str, Any] = api.get("Secret", SECRET, NAMESPACE).get("data") or {}
    return data


def serial(data: dict[str, Any]) -> bytes:
    certificate = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
    return certificate.serial_number.to_bytes(20, "big")


def bundle(api: Api) -> str:
    text: str = api.get("ValidatingWebhookConfiguration", NAME)["webhooks"][0]["clientConfig"]["caBundle"]
    return text


def refused(api: Api, asked: dict[str, Any]) -> str | None:
    try:
        api.create(asked, dry_run=True)
    except Refused as refusal:
        return refusal.message
    return None


def test_a_certificate_is_rotated_in_both_replicas_while_every_question_is_answered(
    replicas: tuple[Scene, Scene], api: Api, asked: dict[str, Any]
) -> None:
    before = serial(held(api))
    deadline = time.monotonic() + 3 * LIFE_SECONDS

    while serial(data := held(api)) == before or {served(replica) for replica in replicas} != {serial(data)}:
        api.create(asked, dry_run=True)
        assert time.monotonic() < deadline, "the certificate was not replaced"

    api.create(asked, dry_run=True)
    assert bundle(api) == data["ca.crt"]
    assert len(x509.load_pem_x509_certificates(base64.b64decode(data["ca.crt"]))) >= 2, "the old one stays trusted"


def test_a_certificate_that_somebody_spoils_is_replaced(
    replicas: tuple[Scene, Scene], api: Api, asked: dict[str, Any]
) -> None:
    garbage = base64.b64encode(b"garbage").decode()

    api.patch("Secret", SECRET, {"data": {"tls.crt": garbage, "tls.key": garbage}}, NAMESPACE)

    api.wait("Secret", SECRET, lambda obj: obj["data"]["tls.crt"] != garbage, NAMESPACE)
    api.create(asked, dry_run=True)


def test_the_trust_that_an_upgrade_takes_away_comes_back(
    replicas: tuple[Scene, Scene], api: Api, asked: dict[str, Any]
) -> None:
    entries = api.get("ValidatingWebhookConfiguration", NAME)["webhooks"]
    entries[0]["clientConfig"].pop("caBundle")

    api.patch("ValidatingWebhookConfiguration", NAME, {"webhooks": entries})

    api.wait(
        "ValidatingWebhookConfiguration", NAME, lambda obj: bool(obj["webhooks"][0]["clientConfig"].get("caBundle"))
    )
    # The API server itself sees its webhooks through a watch, a moment later.
    deadline = time.monotonic() + LIFE_SECONDS
    while refusal := refused(api, asked):
        assert "failed calling webhook" in refusal
        assert time.monotonic() < deadline, refusal


def test_a_renewal_is_logged_and_no_key_is(replicas: tuple[Scene, Scene]) -> None:
    logs = [replica.operator_log() for replica in replicas]
    assert any("the webhook has a new certificate" in log for log in logs)
    assert not any("PRIVATE KEY" in log for log in logs)
