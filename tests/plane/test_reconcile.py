"""The workload follows the spec, and nothing else moves it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import condition
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

OPERATOR_USER = "system:serviceaccount:vllm-operator:vllm-operator"
REJUDGED_WITHIN_SECONDS = 2.0
A100_LABELS = ("NVIDIA-A100-SXM4-40GB", "40960")


def operator_writes(scene: Scene, namespace: str) -> list[str]:
    """Return the operator's writes in a namespace, from the API server's audit log."""
    if scene.plane.audit_log is None:
        pytest.skip("a given cluster's audit log cannot be read; our own control plane has one")
    found = []
    for line in scene.plane.audit_log.read_text().splitlines():
        event = json.loads(line)
        reference = event.get("objectRef") or {}
        is_write = event["verb"] in ("create", "update", "patch", "delete")
        if event["user"]["username"] == OPERATOR_USER and is_write and reference.get("namespace") == namespace:
            found.append(f"{event['verb']} {reference['resource']}/{reference.get('subresource', '')}")
    return found


def on_node(name: str) -> dict[str, Any]:
    """The section `gpu` of a spec that leaves one node."""
    return {"nodeSelector": {"kubernetes.io/hostname": name}}


@pytest.fixture
def ready(api: Api, namespace: str) -> dict:
    api.create(deployment(namespace, model=LLAMA_8B, workload=WORKLOAD))
    return api.wait("VLLMDeployment", "model", is_ready, namespace)


@pytest.fixture
def restarted(scene: Scene) -> Iterator[None]:
    """Whatever the test does to the operator, it runs again afterwards."""
    yield
    if scene.process is None:
        scene.start_operator()


def test_a_label_on_the_resource_changes_nothing_below_it(scene: Scene, api: Api, namespace: str, ready: dict) -> None:
    before = api.get("Deployment", "model", namespace)
    writes = operator_writes(scene, namespace)

    api.patch("VLLMDeployment", "model", {"metadata": {"labels": {"team": "search"}}}, namespace)
    # A later change of the spec is reconciled after the label's event: once it is done, so is the label.
    api.patch("VLLMDeployment", "model", {"spec": {"replicas": 1}}, namespace)
    api.wait("VLLMDeployment", "model", lambda obj: obj["status"]["observedGeneration"] == 2, namespace)

    after = api.get("Deployment", "model", namespace)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    new_writes = operator_writes(scene, namespace)[len(writes) :]
    assert all("vllmdeployments/status" in write for write in new_writes), new_writes


def test_a_longer_context_rolls_the_deployment_once(api: Api, namespace: str, ready: dict) -> None:
    api.patch("VLLMDeployment", "model", {"spec": {"workload": {"contextLength": 4096}}}, namespace)

    again = api.wait(
        "VLLMDeployment",
        "model",
        lambda obj: obj["status"]["observedGeneration"] == 2 and is_ready(obj),
        namespace,
    )

    assert "4096" in again["status"]["plan"]["args"]
    assert len(api.list("ReplicaSet", namespace)) == 2
    rendered = api.get("Deployment", "model", namespace)
    assert rendered["metadata"]["generation"] == 2
    arguments = rendered["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--max-model-len") + 1] == "4096"


def test_a_restarted_operator_finds_nothing_to_write(
    scene: Scene, api: Api, namespace: str, ready: dict, restarted: None
) -> None:
    scene.stop_operator()
    # What was being written when it was told to stop has been finished.
    version = api.get("VLLMDeployment", "model", namespace)["metadata"]["resourceVersion"]
    writes = operator_writes(scene, namespace)
    scene.start_operator()
    # A second resource is reconciled behind the first: when it is ready, the first has been looked at.
    api.create(deployment(namespace, name="later", model=LLAMA_8B, workload=WORKLOAD))
    api.wait("VLLMDeployment", "later", is_ready, namespace)

    assert api.get("VLLMDeployment", "model", namespace)["metadata"]["resourceVersion"] == version
    later = [write for write in operator_writes(scene, namespace)[len(writes) :] if "events" not in write]
    assert later.count("patch deployments/") == 1, later


def test_an_edit_of_what_we_own_is_restored_and_foreign_fields_are_kept(api: Api, namespace: str, ready: dict) -> None:
    foreign = {"metadata": {"annotations": {"example.com/owner": "somebody"}}}
    image = api.get("Deployment", "model", namespace)["spec"]["template"]["spec"]["containers"][0]["image"]
    grace = api.get("Deployment", "model", namespace)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    edit = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": grace + 60}}}}

    api.patch("Deployment", "model", foreign, namespace)
    api.patch("Deployment", "model", edit, namespace)

    restored = api.wait(
        "Deployment",
        "model",
        lambda obj: obj["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == grace,
        namespace,
    )
    assert restored["metadata"]["annotations"]["example.com/owner"] == "somebody"
    assert restored["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_a_deleted_child_comes_back(api: Api, namespace: str, ready: dict) -> None:
    old = api.get("Service", "model", namespace)["metadata"]["uid"]
    api.delete("Service", "model", namespace)

    api.wait("Service", "model", lambda obj: obj["metadata"]["uid"] != old, namespace)


def test_deleting_the_resource_removes_everything_with_the_operator_stopped(
    scene: Scene, api: Api, namespace: str, ready: dict, restarted: None
) -> None:
    assert api.get("VLLMDeployment", "model", namespace)["metadata"].get("finalizers") is None
    scene.stop_operator()

    api.delete("VLLMDeployment", "model", namespace)

    for kind in ("VLLMDeployment", "Deployment", "Service"):
        # The collector notices a kind that is new to the cluster within 30 s.
        api.wait_gone(kind, "model", namespace, seconds=90)
    for pod in api.list("Pod", namespace):
        api.wait_gone("Pod", pod["metadata"]["name"], namespace)


def test_relabelling_a_node_re_judges_what_depends_on_it(api: Api, namespace: str) -> None:
    labels = ("nvidia.com/gpu.product", "nvidia.com/gpu.memory")
    original = {label: api.get("Node", "gpu-t4-0")["metadata"]["labels"][label] for label in labels}
    api.create(deployment(namespace, workload=WORKLOAD, gpu=on_node("gpu-t4-0"), policy={"admission": "Warn"}))
    api.wait("VLLMDeployment", "model", lambda obj: condition(obj, "Feasible").get("status") == "False", namespace)
    try:
        # As if the node had come back with another card under the same name.
        api.patch("Node", "gpu-t4-0", {"metadata": {"labels": dict(zip(labels, A100_LABELS, strict=True))}})
        judged = api.wait(
            "VLLMDeployment",
            "model",
            lambda obj: obj["status"]["verdict"] == "Fits",
            namespace,
            seconds=REJUDGED_WITHIN_SECONDS,
        )
        assert judged["status"]["plan"]["gpuProduct"] == A100_LABELS[0]
        assert judged["status"]["observedGeneration"] == 1
    finally:
        api.patch("Node", "gpu-t4-0", {"metadata": {"labels": original}})


def test_removing_a_node_re_judges_what_depends_on_it(api: Api, namespace: str) -> None:
    node = api.get("Node", "gpu-a100-0")
    asked = deployment(namespace, workload=WORKLOAD, gpu=on_node("gpu-a100-0"), policy={"admission": "Warn"})
    api.create(asked)
    api.wait("VLLMDeployment", "model", lambda obj: obj.get("status", {}).get("verdict") == "Fits", namespace)
    try:
        api.delete("Node", "gpu-a100-0")
        judged = api.wait(
            "VLLMDeployment",
            "model",
            lambda obj: obj["status"]["verdict"] != "Fits",
            namespace,
            seconds=REJUDGED_WITHIN_SECONDS,
        )
        assert condition(judged, "Feasible")["status"] != "True"
    finally:
        metadata = {key: node["metadata"][key] for key in ("name", "labels", "annotations")}
        again = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": metadata,
            "spec": {"taints": [taint for taint in node["spec"]["taints"] if taint["key"] == "nvidia.com/gpu"]},
            "status": {key: node["status"][key] for key in ("capacity", "allocatable")},
        }
        api.create(again)
        api.wait("Node", "gpu-a100-0", _node_is_ready)


def _node_is_ready(node: dict) -> bool:
    conditions = node["status"].get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
