"""Another version of the operator leaves the pods of an unchanged spec alone, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.controlplane.client import condition
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

from vllm_operator.render.labels import MANAGER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

EARLIER = sorted((Path(__file__).parent / "earlier").glob("*.yaml"))
NEXT_IMAGE = "registry.example.com/vllm-openai:next"


@pytest.fixture
def stopped(scene: Scene) -> Iterator[None]:
    """No operator runs; afterwards the usual one does."""
    scene.stop_operator()
    yield
    if scene.process is None:
        scene.start_operator()


@pytest.fixture
def other(scene: Scene) -> Iterator[Scene]:
    """An operator that would render something else: its engine is a newer one. It takes over from the usual one."""
    newer = scene.replica("vllm-operator-next")
    newer.environment = {**scene.environment, "VLLM_OPERATOR_ENGINE_IMAGE": NEXT_IMAGE}
    try:
        yield newer
    finally:
        if newer.process is not None:
            newer.stop_operator()
        if scene.process is None:
            scene.start_operator()


def running(api: Api, name: str, namespace: str) -> tuple[Any, ...]:
    """Return all that an upgrade is to leave alone: the template, its revisions, and the pods."""
    return (
        api.get("Deployment", name, namespace)["spec"]["template"],
        {replicas["metadata"]["uid"] for replicas in api.list("ReplicaSet", namespace)},
        {pod["metadata"]["uid"] for pod in api.list("Pod", namespace)},
    )


def has_all_pods(obj: dict[str, Any]) -> bool:
    return obj.get("status", {}).get("availableReplicas") == obj["spec"]["replicas"]


@pytest.mark.parametrize("left", EARLIER, ids=[path.stem for path in EARLIER])
def test_pods_that_an_earlier_version_has_made_outlive_the_upgrade(
    scene: Scene, api: Api, namespace: str, stopped: None, left: Path
) -> None:
    resource, *objects = yaml.safe_load_all(left.read_text())
    name = resource["metadata"]["name"]
    resource["metadata"]["namespace"] = namespace
    owner = api.create(resource)["metadata"]["uid"]
    for obj in objects:
        obj["metadata"]["namespace"] = namespace
        obj["metadata"]["ownerReferences"][0]["uid"] = owner
        api.apply(obj, manager=MANAGER)
    api.wait("Deployment", name, has_all_pods, namespace)
    before = running(api, name, namespace)

    scene.start_operator()

    told = api.wait("VLLMDeployment", name, is_ready, namespace)
    rendered = condition(told, "Rendered")
    assert rendered["status"] == "True"
    assert "a new one would differ" in rendered["message"], "what today's operator renders is to differ from the file"
    assert running(api, name, namespace) == before

    api.patch("VLLMDeployment", name, {"spec": {"replicas": 3}}, namespace)
    api.wait("VLLMDeployment", name, lambda obj: is_ready(obj) and obj["status"]["readyReplicas"] == 3, namespace)
    template, replica_sets, pods = running(api, name, namespace)
    assert (template, replica_sets) == before[:2]
    assert pods > before[2]


def test_an_operator_with_another_engine_leaves_running_pods_and_starts_new_ones_with_it(
    scene: Scene, api: Api, namespace: str, other: Scene
) -> None:
    wish = {"model": LLAMA_8B, "workload": WORKLOAD, "gpu": {"products": ["*H100*"]}}
    api.create(deployment(namespace, name="old", **wish))
    api.wait("VLLMDeployment", "old", is_ready, namespace)
    before = api.get("Deployment", "old", namespace)

    scene.stop_operator()
    other.start_operator()

    api.create(deployment(namespace, name="new", **wish))
    api.wait("VLLMDeployment", "new", is_ready, namespace)
    (container,) = api.get("Deployment", "new", namespace)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == NEXT_IMAGE
    told = api.wait(
        "VLLMDeployment", "old", lambda obj: "would differ" in condition(obj, "Rendered")["message"], namespace
    )
    assert is_ready(told)
    assert told["status"]["plan"]["image"] != NEXT_IMAGE, "the status is to tell what runs"
    after = api.get("Deployment", "old", namespace)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]

    # The user's own change of the spec is what brings the new engine.
    api.patch("VLLMDeployment", "old", {"spec": {"workload": {"contextLength": 4096}}}, namespace)
    api.wait(
        "VLLMDeployment",
        "old",
        lambda obj: obj["status"]["observedGeneration"] == 2 and is_ready(obj),
        namespace,
    )
    (container,) = api.get("Deployment", "old", namespace)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == NEXT_IMAGE
