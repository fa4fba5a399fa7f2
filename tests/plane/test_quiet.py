"""An operator with nothing to do asks nothing, one that cannot help asks seldom, and a node concerns only its own."""

from __future__ import annotations

import os
import re
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.audit import AuditTrail
from tests.controlplane.client import condition
from tests.controlplane.waiting import held_within, wait_until
from tests.plane.machines import gpu_node
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.served_metrics import metrics_served
from tests.plane.test_verdicts import WORKLOAD, is_ready

from vllm_operator.runtime.fleet import QUIET_SECONDS
from vllm_operator.runtime.queue import FIRST_RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene
    from tests.plane.served_metrics import MetricsServer

pytestmark = pytest.mark.control_plane

BEATS = 12
"""Changes of nodes and pods that are nothing to a deployment; `SOAK_QUIET_SECONDS` goes on for that long."""
SOAK_SECONDS = float(os.environ.get("SOAK_QUIET_SECONDS", "0"))
SETTLED_SECONDS = 0.8
"""Longer than an operator waits for a change of the cluster to be complete."""
STRAY_LOOKS = 1
"""What something else may have asked for meanwhile, such as an echo of a status that came before its answer."""
ATTEMPTS = 4
LEAST_JITTER, MOST_JITTER = 0.8, 1.2
"""How a delay is spread (`runtime.clock.jitter`)."""


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """What answers for a pod that would otherwise be called silent after a minute."""
    with metrics_served() as served:
        yield served


@pytest.fixture
def trail(scene: Scene) -> AuditTrail:
    """What the operator asks of the API server from now on."""
    if scene.plane.audit_log is None:
        pytest.skip("a given cluster's audit log cannot be read; our own control plane has one")
    return AuditTrail(scene.plane.audit_log)


def reconciles(scene: Scene) -> float:
    """Return how many reconciles the operator has done."""
    counts = re.findall(r'^vllm_operator_reconcile_seconds_count\{result="\w+"\} (\S+)$', scene.metrics(), re.MULTILINE)
    return sum(map(float, counts))


def settled(scene: Scene) -> float:
    """Return the number of reconciles once no more come."""
    done = [reconciles(scene)]
    while held_within(lambda: reconciles(scene) != done[-1], SETTLED_SECONDS):
        done.append(reconciles(scene))
    return done[-1]


def foreign_pod(namespace: str, name: str) -> dict[str, Any]:
    """A pod of somebody else, without GPUs, on a GPU node."""
    container = {"name": "main", "image": "registry.example.com/app:1", "resources": {"requests": {"cpu": "100m"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": "gpu-h100-0", "containers": [container]},
    }


def test_an_operator_with_nothing_to_do_writes_nothing_and_reads_nothing(
    scene: Scene, api: Api, namespace: str, trail: AuditTrail, server: MetricsServer
) -> None:
    server.status = 302  # said at once, and asked again ever less often; nothing of it is learned
    overlay = {"metadata": {"annotations": {"vllm-operator.test/pod-ip": server.address}}}
    asked_for = deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, gpu={"products": ["*H100*"]}, replicas=2)
    asked_for["spec"]["podTemplate"] = overlay
    api.create(asked_for)
    api.wait("VLLMDeployment", "model", lambda obj: is_ready(obj) and "observed" in obj["status"], namespace)
    settled(scene)
    kinds = ("VLLMDeployment", "Deployment", "Service", "PodDisruptionBudget")
    before = {kind: api.get(kind, "model", namespace) for kind in kinds}
    trail.read()
    trail.requests.clear()

    until, beat = time.monotonic() + SOAK_SECONDS, 0
    while beat < BEATS or time.monotonic() < until:
        beat += 1
        heartbeat = {"type": "Example", "status": "True", "reason": "Beat", "message": str(beat)}
        others = [one for one in api.get("Node", "gpu-h100-0")["status"]["conditions"] if one["type"] != "Example"]
        api.patch("Node", "gpu-h100-0", {"status": {"conditions": [*others, heartbeat]}}, subresource="status")
        api.patch("Node", "gpu-h100-0", {"metadata": {"annotations": {"example.com/beat": str(beat)}}})
        pod = f"foreign-{beat}"
        api.create(foreign_pod(namespace, pod))
        api.wait("Pod", pod, lambda obj: obj["status"]["phase"] == "Running", namespace)
        api.delete("Pod", pod, namespace)
        api.wait_gone("Pod", pod, namespace)
    settled(scene)

    asked = [request for request in trail.read() if request.resource != "leases" and request.namespace == namespace]
    assert asked == []
    for kind, obj in before.items():
        assert api.get(kind, "model", namespace)["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]


def test_a_workload_of_somebody_else_is_a_condition_and_asked_for_ever_less_often(
    api: Api, namespace: str, trail: AuditTrail
) -> None:
    labels = {"app": "theirs"}
    container = {"name": "main", "image": "registry.example.com/app:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "model", "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }
    made = api.create(theirs)

    api.create(deployment(namespace, model=LLAMA_8B, workload=WORKLOAD))

    told = api.wait("VLLMDeployment", "model", lambda obj: bool(condition(obj, "Rendered")), namespace)
    rendered, ready = condition(told, "Rendered"), condition(told, "Ready")
    assert (rendered["status"], rendered["reason"]) == ("False", "Conflict")
    assert "a Deployment 'model' that is not this VLLMDeployment's exists already" in rendered["message"]
    assert (ready["status"], ready["reason"]) == ("False", "Conflict")

    def attempts() -> list[float]:
        return [
            request.begun
            for request in trail.read()
            if request.namespace == namespace and request.code == 409 and request.resource == "deployments"
        ]

    wait_until(lambda: len(attempts()) >= ATTEMPTS, "further attempts", seconds=20)
    *_, shorter, longer = (later - earlier for earlier, later in pairwise(attempts()))
    assert shorter >= FIRST_RETRY_SECONDS * LEAST_JITTER
    assert longer >= shorter * 2 * LEAST_JITTER / MOST_JITTER
    assert api.get("Deployment", "model", namespace)["spec"] == made["spec"]
    statuses = [
        one for one in trail.writes() if one.resource == "vllmdeployments/status" and one.namespace == namespace
    ]
    assert len(statuses) == 1, "the same was said more than once"

    api.delete("Deployment", "model", namespace)
    api.wait("VLLMDeployment", "model", is_ready, namespace)


def test_a_node_that_changes_is_looked_at_by_those_that_it_concerns_and_once(
    scene: Scene, api: Api, own_nodes: Callable[..., None], namespace: str
) -> None:
    # The far ones are more than all rounds of the near ones together: were they looked at, it would show.
    pools = {"near": 4, "far": 20}
    label = "vllm-operator.test/pool"
    own_nodes(*(gpu_node(f"{namespace}-{pool}", gpus=24, labels={label: f"{namespace}-{pool}"}) for pool in pools))
    for pool, count in pools.items():
        for number in range(count):
            selector = {"nodeSelector": {label: f"{namespace}-{pool}"}}
            name = f"{pool}-{number}"
            api.create(deployment(namespace, name=name, model=LLAMA_8B, workload=WORKLOAD, gpu=selector))
    for pool, count in pools.items():
        for number in range(count):
            api.wait("VLLMDeployment", f"{pool}-{number}", is_ready, namespace)
    before = settled(scene)

    node = f"{namespace}-near"
    # A driver that restarts says many things in a row.
    began = time.monotonic()
    for gpus in ("23", "22", "23", "22"):
        api.patch("Node", node, {"status": {"allocatable": {"nvidia.com/gpu": gpus}}}, subresource="status")
    rounds = 1 + int((time.monotonic() - began) / QUIET_SECONDS)
    wait_until(lambda: reconciles(scene) > before, "a reconcile")
    looks = settled(scene) - before
    assert pools["near"] <= looks <= pools["near"] * min(rounds, 4) + STRAY_LOOKS, "a burst is looked at once"
