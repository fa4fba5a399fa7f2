"""A Hub token that is used shows up nowhere: in no log line, Event, status, metric or object."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from tests.controlplane.client import COLLECTIONS, condition
from tests.hub.server import HubModel
from tests.plane.models import LLAMA_8B, config_of, deployment

if TYPE_CHECKING:
    from tests.controlplane.client import Object
    from tests.controlplane.scene import Scene
    from tests.hub.server import HubServer

pytestmark = pytest.mark.control_plane

TOKENS = {
    "good": "hf_GoodTokenThatMustStaySecret+/0123456789",
    "refused": "hf_RefusedTokenThatMustStaySecret0123456789",
    "expired": "expired",
}
"""By the name of the resource that uses it; what the Hub of the tests makes of the last is its own."""
MODEL = "test/private"


def secret(namespace: str, name: str, token: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"token": token},
    }


def test_tokens_are_used_and_never_seen(bare: Scene, bare_namespace: str, hub: HubServer) -> None:
    api = bare.api
    hub.models[MODEL] = HubModel(files={"config.json": config_of(LLAMA_8B)}, gated=True, tokens=(TOKENS["good"],))
    asked_before = len(hub.requests)
    operator = bare.replica("vllm-operator-talkative")
    operator.environment = {**operator.environment, "VLLM_OPERATOR_LOG_LEVEL": "debug"}
    operator.start_operator()
    try:
        operator.install_webhook()
        for name, token in TOKENS.items():
            api.create(secret(bare_namespace, name, token))
            api.create(deployment(bare_namespace, name=name, model={"uri": MODEL, "tokenSecretRef": {"name": name}}))
        api.wait("Deployment", "good", lambda obj: True, bare_namespace)
        for name, wanted in (("good", "True"), ("refused", "False"), ("expired", "False")):
            api.wait(
                "VLLMDeployment",
                name,
                lambda obj, wanted=wanted: condition(obj, "ModelResolved").get("status") == wanted,
                bare_namespace,
            )
        seen = everything(operator, bare_namespace)
    finally:
        operator.stop_operator()
        bare.remove_webhook()
    used = {request.authorization for request in hub.requests[asked_before:]}
    assert {f"Bearer {token}" for token in TOKENS.values()} <= used, "the Hub was asked with each of them"
    seen["log"] = operator.operator_log()
    own = json.loads(json.dumps(operator.operator_kubeconfig.read_text())).partition("token: ")[2].split()[0]
    for token in (TOKENS["good"], TOKENS["refused"], own):
        encoded = (token, quote(token, safe=""), base64.b64encode(token.encode()).decode(), json.dumps(token)[1:-1])
        shown = [where for where, text in seen.items() if any(form in text for form in encoded)]
        assert shown == []


def everything(operator: Scene, namespace: str) -> dict[str, str]:
    """Return all that the operator has written, by where: its metrics, and every object of a namespace but Secrets."""
    found = {"metrics": operator.metrics()}
    served = ("ConfigMap", "Deployment", "Event", "PersistentVolumeClaim", "Service", "VLLMDeployment")
    for kind in served:
        assert kind in COLLECTIONS
        for obj in operator.api.list(kind, namespace):
            found[f"{kind} {obj['metadata']['name']}"] = json.dumps(obj)
    assert "Deployment good" in found
    assert "secretKeyRef" in found["Deployment good"]
    return found
