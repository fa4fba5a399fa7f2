"""The CRD and the rendered pods as the real API server judges them: rules and Pod Security.

Everything is a dry run, so that all tests share a namespace and leave nothing to wait for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import yaml
from tests.controlplane.client import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

TESTS = Path(__file__).resolve().parents[1]
EXAMPLES: list[dict[str, Any]] = yaml.safe_load((TESTS / "unit" / "api" / "rule_examples.yaml").read_text())
GOLDEN = TESTS / "golden" / "render"
NOT_RESTRICTED = {
    "mig-slice-old-engine": "a hostPath cache is the user's own wish",
    "overlay": "its sidecar, PriorityClass and RuntimeClass are the user's own",
}
"""Golden cases whose pods Pod Security `restricted` or a missing class would refuse, and why that is right."""


@pytest.fixture(scope="module")
def restricted(scene: Scene) -> Iterator[str]:
    """A namespace that admits only pods of Pod Security's strictest level."""
    name = f"t-{uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    scene.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    scene.api.wait("ServiceAccount", "default", lambda _: True, name)
    yield name
    scene.api.delete("Namespace", name)


def _object(spec: dict[str, Any], name: str = "example") -> dict[str, Any]:
    # Off: the planner's verdict on a made-up model is not what these tests are about.
    policy = {"policy": {"admission": "Off", **spec.get("policy", {})}}
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMDeployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**spec, **policy},
    }


def _cases(kind: str) -> list[Any]:
    return [
        pytest.param(example["rule"], spec, id=f"{number}-{index}")
        for number, example in enumerate(EXAMPLES)
        if kind == "accepts" or example.get("at") != "command"
        for index, spec in enumerate(example[kind])
    ]


@pytest.mark.parametrize(("rule", "spec"), _cases("accepts"))
def test_the_api_server_accepts_what_the_rules_accept(api: Api, rule: str, spec: dict[str, Any]) -> None:
    api.create(_object(spec), dry_run=True)


@pytest.mark.parametrize(("rule", "spec"), _cases("refuses"))
def test_the_api_server_refuses_what_the_rules_refuse(api: Api, rule: str, spec: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        api.create(_object(spec), dry_run=True)
    assert refused.value.status == 422
    assert rule in refused.value.message


@pytest.mark.parametrize("name", ["8b", "llama.8b", "a" * 64])
def test_the_api_server_refuses_a_name_that_no_service_can_have(api: Api, name: str) -> None:
    with pytest.raises(Refused, match="must be a DNS label"):
        api.create(_object({"model": {"uri": "org/name"}}, name), dry_run=True)


def _rendered(case: str, namespace: str) -> list[dict[str, Any]]:
    objects = list(yaml.safe_load_all((GOLDEN / case / "objects.yaml").read_text()))
    for obj in objects:
        obj["metadata"]["namespace"] = namespace
        del obj["metadata"]["ownerReferences"]
    return objects


@pytest.mark.parametrize("case", sorted({path.name for path in GOLDEN.iterdir()} - set(NOT_RESTRICTED)))
def test_rendered_pods_are_admitted_under_restricted_pod_security(api: Api, restricted: str, case: str) -> None:
    templates = [template for obj in _rendered(case, restricted) for template in _pod_templates(obj)]
    assert templates
    for template in templates:
        # A pod that brings its own ServiceAccount is not admitted before that exists.
        template["spec"].pop("serviceAccountName", None)
        metadata = {**template["metadata"], "name": "example", "namespace": restricted}
        api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}, dry_run=True)


def _pod_templates(obj: dict[str, Any]) -> list[dict[str, Any]]:
    if obj["kind"] == "Deployment":
        return [obj["spec"]["template"]]
    if obj["kind"] == "LeaderWorkerSet":
        group = obj["spec"]["leaderWorkerTemplate"]
        return [group["leaderTemplate"], group["workerTemplate"]]
    return []
