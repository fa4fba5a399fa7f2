"""What is kept elsewhere: a resource that is brought back from its YAML, and one that an earlier CRD has let in."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import yaml
from tests.controlplane.build import ROOT
from tests.controlplane.client import Refused, condition
from tests.controlplane.waiting import wait_until
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

CRD = "vllmdeployments.vllm-operator.io"
TOO_MANY_TOKENS = 20_000_000


@pytest.fixture
def elsewhere(api: Api) -> Iterator[str]:
    """Another namespace, for what is brought back."""
    name = f"t-{uuid4().hex[:8]}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    for kind in ("VLLMDeployment", "Deployment", "Pod"):
        api.delete_all(kind, name)
    api.delete("Namespace", name)


def test_a_resource_that_comes_back_from_its_yaml_has_the_same_plan(
    scene: Scene, api: Api, namespace: str, elsewhere: str
) -> None:
    api.create(deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, gpu={"products": ["*H100*"]}))
    before = api.wait("VLLMDeployment", "model", is_ready, namespace)
    pod = api.get("Deployment", "model", namespace)["spec"]["template"]
    saved = scene.kubectl("get", "vd", "model", "-o", "yaml", f"--namespace={namespace}").stdout

    api.delete("VLLMDeployment", "model", namespace)

    scene.kubectl("create", "-f", "-", text=saved.replace(f"namespace: {namespace}", f"namespace: {elsewhere}"))

    after = api.wait("VLLMDeployment", "model", is_ready, elsewhere)
    assert after["status"]["plan"] == before["status"]["plan"]
    assert api.get("Deployment", "model", elsewhere)["spec"]["template"] == pod


@pytest.fixture
def lenient(bare: Scene) -> Iterator[None]:
    """The CRD as an earlier release might have had it: without a bound of today's, and without a status field."""
    crd = bare.api.get("CustomResourceDefinition", CRD)
    spec = copy.deepcopy(crd["spec"])
    properties = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    del properties["spec"]["properties"]["workload"]["properties"]["contextLength"]["maximum"]
    del properties["status"]["properties"]["observed"]["properties"]["problemReason"]
    bare.api.patch("CustomResourceDefinition", CRD, {"spec": spec})
    yield
    bare.api.apply(yaml.safe_load((ROOT / "crds" / f"{CRD}.yaml").read_text()))


def asked(namespace: str, name: str) -> dict[str, Any]:
    return deployment(namespace, name=name, model=LLAMA_8B, workload={"contextLength": TOO_MANY_TOKENS})


def test_what_an_earlier_crd_has_let_in_stays_editable_is_told_and_can_be_mended(
    bare: Scene, bare_namespace: str, lenient: None
) -> None:
    api = bare.api

    def lets_in() -> bool:
        try:
            api.create(asked(bare_namespace, "probe"), dry_run=True)
        except Refused:
            return False
        return True

    wait_until(lets_in, "the earlier CRD")
    api.create(asked(bare_namespace, "model"))

    api.apply(yaml.safe_load((ROOT / "crds" / f"{CRD}.yaml").read_text()))
    wait_until(lambda: not lets_in(), "today's CRD")

    labelled = api.patch("VLLMDeployment", "model", {"metadata": {"labels": {"team": "search"}}}, bare_namespace)
    assert labelled["spec"]["workload"]["contextLength"] == TOO_MANY_TOKENS
    bare.start_operator()
    told = api.wait(
        "VLLMDeployment", "model", lambda obj: condition(obj, "SpecValid").get("status") == "False", bare_namespace
    )
    assert "spec.workload.contextLength" in condition(told, "SpecValid")["message"]
    assert condition(told, "Ready")["reason"] == "Invalid"

    api.patch("VLLMDeployment", "model", {"spec": {"workload": {"contextLength": 4096}}}, bare_namespace)
    api.wait("Deployment", "model", lambda obj: True, bare_namespace)
    with pytest.raises(Refused, match="contextLength"):
        api.patch("VLLMDeployment", "model", {"spec": {"workload": {"contextLength": TOO_MANY_TOKENS}}}, bare_namespace)


@pytest.fixture
def unaware(bare: Scene) -> Iterator[None]:
    """The CRD as it stays after `helm upgrade`: without fields of the status that this release writes."""
    crd = bare.api.get("CustomResourceDefinition", CRD)
    spec = copy.deepcopy(crd["spec"])
    status = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    del status["oomRisk"]
    del status["plan"]["properties"]["reasons"]
    bare.api.patch("CustomResourceDefinition", CRD, {"spec": spec})
    yield
    bare.api.apply(yaml.safe_load((ROOT / "crds" / f"{CRD}.yaml").read_text()))


def test_an_operator_that_is_newer_than_its_crd_says_what_can_be_said(
    bare: Scene, bare_namespace: str, unaware: None
) -> None:
    api = bare.api
    bare.start_operator()
    api.create(deployment(bare_namespace, model=LLAMA_8B, workload={"contextLength": 4096}))

    def has_its_objects(obj: dict[str, Any]) -> bool:
        return condition(obj, "Rendered").get("status") == "True"

    status = api.wait("VLLMDeployment", "model", has_its_objects, bare_namespace)["status"]
    assert status["verdict"]
    assert "oomRisk" not in status
    assert "reasons" not in status["plan"]
    assert "the CRD in the cluster is older than the operator" in bare.operator_log()

    bare.stop_operator()
    api.apply(yaml.safe_load((ROOT / "crds" / f"{CRD}.yaml").read_text()))
    bare.start_operator()
    api.wait("VLLMDeployment", "model", lambda obj: "reasons" in obj["status"]["plan"], bare_namespace)
