"""The webhook does not answer: what exists stays editable and deletable, and nothing that does not fit is rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import Refused, condition
from tests.controlplane.waiting import wait_until
from tests.plane.models import LLAMA_8B, LLAMA_405B, deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

WEBHOOK = "vllm-operator"
FITS: dict[str, Any] = {"workload": {"contextLength": 4096}}


@pytest.fixture(params=["Ignore", "Fail"])
def policy(request: pytest.FixtureRequest, bare: Scene) -> Iterator[str]:
    """The chart's webhook under both policies, with nobody who answers it."""
    bare.install_webhook()
    configuration = bare.api.get("ValidatingWebhookConfiguration", WEBHOOK)
    webhooks = [{**entry, "failurePolicy": request.param, "timeoutSeconds": 1} for entry in configuration["webhooks"]]
    bare.api.patch("ValidatingWebhookConfiguration", WEBHOOK, {"webhooks": webhooks})
    yield request.param
    bare.remove_webhook()


@pytest.fixture
def existing(bare: Scene, bare_namespace: str) -> str:
    """A resource that was made and rendered while all was well; afterwards no operator runs."""
    bare.start_operator()
    bare.api.create(deployment(bare_namespace, model=LLAMA_8B, **FITS))
    bare.api.wait("Deployment", "model", lambda obj: True, bare_namespace)
    bare.api.wait("VLLMDeployment", "model", lambda obj: bool(obj.get("status")), bare_namespace)
    bare.stop_operator()
    return "model"


def policy_is_in_force(api: Api, namespace: str, policy: str) -> None:
    """Wait until the API server asks the webhook, or goes on without it, as the policy says."""

    def holds() -> bool:
        try:
            api.create(deployment(namespace, name="probe", model=LLAMA_8B), dry_run=True)
        except Refused as error:
            return policy == "Fail" and "failed calling webhook" in error.message
        return policy == "Ignore"

    wait_until(holds, f"failurePolicy {policy} is in force", seconds=15)


def test_what_exists_stays_editable_and_deletable(bare: Scene, bare_namespace: str, existing: str, policy: str) -> None:
    api = bare.api
    policy_is_in_force(api, bare_namespace, policy)

    labelled = {"metadata": {"labels": {"team": "search"}, "annotations": {"a": "b"}, "finalizers": ["example.com/x"]}}
    edited = api.patch("VLLMDeployment", existing, labelled, bare_namespace)
    assert edited["metadata"]["finalizers"] == ["example.com/x"]
    told = api.patch(
        "VLLMDeployment", existing, {"status": {"verdict": "Unknown"}}, bare_namespace, subresource="status"
    )
    assert told["status"]["verdict"] == "Unknown"
    api.delete("VLLMDeployment", existing, bare_namespace)
    assert "deletionTimestamp" in api.get("VLLMDeployment", existing, bare_namespace)["metadata"]
    api.patch("VLLMDeployment", existing, {"metadata": {"finalizers": None}}, bare_namespace)
    api.wait_gone("VLLMDeployment", existing, bare_namespace)
    api.wait_gone("Deployment", existing, bare_namespace)


def test_a_change_of_the_spec_follows_the_policy_and_nothing_infeasible_is_rendered(
    bare: Scene, bare_namespace: str, existing: str, policy: str
) -> None:
    api = bare.api
    policy_is_in_force(api, bare_namespace, policy)
    too_large = {"spec": {"model": {"uri": LLAMA_405B}, "gpu": {"products": ["*T4*"]}}}
    rendered = api.get("Deployment", existing, bare_namespace)
    if policy == "Fail":
        with pytest.raises(Refused) as refused:
            api.patch("VLLMDeployment", existing, too_large, bare_namespace)
        assert "feasibility.vllm-operator.io" in refused.value.message
        return
    api.patch("VLLMDeployment", existing, too_large, bare_namespace)
    api.create({**deployment(bare_namespace, name="new"), "spec": too_large["spec"]})

    bare.start_operator()

    for name in (existing, "new"):
        judged = api.wait(
            "VLLMDeployment",
            name,
            lambda obj: condition(obj, "Feasible").get("status") == "False",
            bare_namespace,
        )
        assert judged["status"]["verdict"] == "DoesNotFit"
        assert condition(judged, "Rendered")["status"] == "False"
    assert api.find("Deployment", "new", bare_namespace) is None
    assert api.find("Service", "new", bare_namespace) is None
    left = api.get("Deployment", existing, bare_namespace)
    assert left["metadata"]["generation"] == rendered["metadata"]["generation"], "what ran is left as it was"
