"""Thousands of hostile resources, reviews, nodes and pods: no crash, no 500, no hang, and nobody else has to wait."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.waiting import LIST_STEP_SECONDS, NotInTime, wait_until
from tests.plane.asked import Asked
from tests.plane.hostile import as_json, hostile, hostile_strings
from tests.plane.models import LLAMA_8B, QWEN_8B, deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.scene import Scene

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(3600)]

CASES = int(os.environ.get("SOAK_FUZZ", "1000"))
SEED = int(os.environ.get("SOAK_SEED", "9"))
BATCH = 100
ANSWERED_WITHIN_SECONDS = 10.0
TOLD_WITHIN_SECONDS = 60.0
"""A batch of resources, whatever their number in all: those before are gone."""
HANDLER_P99_SECONDS = 0.05
"""Generous, as both cores are busy: a handler that a review can slow down is slower by orders of magnitude."""
RESOURCES = "/apis/vllm-operator.io/v1alpha1/namespaces/{}/vllmdeployments"
NO_WARNINGS = "fieldValidation=Ignore"
"""One for each unknown field is more headers than Python's client takes."""


class Connection:
    """One connection that is kept, for requests of which neither the body nor the answer need be sound."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=context, timeout=ANSWERED_WITHIN_SECONDS
        )

    def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        self._connection.request(method, path, body or None, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def server(bare: Scene) -> Iterator[Connection]:
    """The API server, as the administrator."""
    connection = Connection(bare.plane.ports["apiserver"], bare.plane.client_context())
    yield connection
    connection.close()


@pytest.fixture
def judged(bare: Scene) -> Iterator[Scene]:
    """The operator with its webhook."""
    bare.start_operator()
    bare.install_webhook()
    log_before = len(bare.operator_log())
    pid = bare.process.pid if bare.process is not None else None
    yield bare
    bare.remove_webhook()
    assert bare.process is not None
    assert bare.process.poll() is None, "the operator ended"
    assert bare.process.pid == pid
    faults = [line for line in bare.operator_log()[log_before:].splitlines() if '"exception"' in line]
    assert not faults, faults[0][:3000]


def specimen(namespace: str) -> list[dict[str, Any]]:
    """Good resources that use much of the API."""
    overlay = {
        "metadata": {"annotations": {"example.com/team": "search"}},
        "spec": {
            "priorityClassName": "high",
            "containers": [
                {"name": "engine", "env": [{"name": "A", "value": "b"}], "resources": {"limits": {"memory": "64Gi"}}},
                {"name": "sidecar", "image": "example.com/sidecar:1", "args": ["--flag"]},
            ],
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        },
    }
    return [
        deployment(namespace, model=LLAMA_8B, podTemplate=overlay),
        deployment(
            namespace,
            model={"uri": QWEN_8B, "revision": "main", "servedName": "qwen"},
            workload={"contextLength": 8192, "concurrency": 4, "batchingMode": "Latency"},
            engine={"tensorParallelSize": 2, "maxNumSeqs": 64, "extraArgs": ["--enable-prefix-caching"]},
            gpu={"products": ["*H100*"], "minMemory": "40Gi", "tolerations": [{"key": "x", "operator": "Exists"}]},
            policy={"admission": "Warn", "gpuMemoryUtilization": 0.85, "headroomGb": 1.0},
            podTemplate=overlay,
        ),
        deployment(
            namespace,
            model={"uri": "pvc://models/llama", "parametersBillions": 8.03},
            policy={"admission": "Off"},
            service={"type": "ClusterIP", "port": 8000},
            cache={"type": "PersistentVolumeClaim", "size": "100Gi"},
            podTemplate=overlay,
        ),
    ]


def test_hostile_resources_are_refused_or_told_of_and_stop_nobody(
    judged: Scene, bare_namespace: str, server: Connection
) -> None:
    dice = random.Random(SEED)
    accepted: list[str] = []
    path = RESOURCES.format(bare_namespace)
    for number in range(CASES):
        within = "podTemplate" if dice.random() < 0.6 else ""
        good = dice.choice(specimen(bare_namespace))
        obj = {**good, "metadata": {**good["metadata"], "name": f"f-{number}"}}
        obj["spec"] = hostile(good["spec"], dice, within=within)
        if dice.random() < 0.3 and isinstance(obj["spec"].get("policy", {}), dict):
            # As where the webhook is not asked: what only it would refuse reaches the reconciler.
            obj["spec"]["policy"] = {"admission": "Off"}
        status, body = server.send("POST", f"{path}?{NO_WARNINGS}", as_json(obj))
        assert status < 500, body[:2000]
        if status < 300:
            accepted.append(f"f-{number}")
        if len(accepted) == BATCH or number == CASES - 1:
            wait_until_told(server, path, set(accepted))
            server.send("DELETE", path)
            accepted.clear()
    asked = Asked(judged.api, bare_namespace, dice)
    asked.create(3)
    asked.wait()


def wait_until_told(server: Connection, path: str, names: set[str]) -> None:
    """Wait for a status of each.

    Raises:
        NotInTime: with the names of those that have none.
    """
    try:
        wait_until(lambda: told(server, path) >= names, "", seconds=TOLD_WITHIN_SECONDS, step_seconds=LIST_STEP_SECONDS)
    except NotInTime:
        silent = sorted(names - told(server, path))
        raise NotInTime(f"a status for each within {TOLD_WITHIN_SECONDS} s, but {silent} have none") from None


def told(server: Connection, path: str) -> set[str]:
    """Return the names of the resources that have a status of their newest generation."""
    items = json.loads(server.send("GET", path)[1])["items"]
    return {
        item["metadata"]["name"]
        for item in items
        if (item.get("status") or {}).get("observedGeneration") == item["metadata"]["generation"]
    }


def test_hostile_reviews_are_answered_and_cost_no_more_than_others(judged: Scene, bare_namespace: str) -> None:
    dice = random.Random(SEED)
    context = ssl.create_default_context(cafile=str(judged.plane.authority.certificate))
    connection = Connection(judged.webhook_port, context)
    statuses = set()
    for number in range(CASES):
        review = review_of(dice.choice(specimen(bare_namespace)), dice)
        part = dice.choice(("", "request", "request", "object", "object", "object", "object"))
        if part == "object":
            review["request"]["object"] = hostile(review["request"]["object"], dice)
        else:
            review = hostile(review, dice, within=part)
        status, body = connection.send("POST", "/feasibility", as_json(review))
        statuses.add(status)
        assert status in (200, 400), f"{status} for case {number}: {body[:500]!r}"
        if status == 200:
            answer = json.loads(body)["response"]
            assert isinstance(answer["allowed"], bool)
            assert answer["allowed"] or answer["status"]["code"] == 422, answer
    assert statuses == {200, 400}
    for text in (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"request":' * 5_000, b"9" * 100_000):
        assert connection.send("POST", "/feasibility", text)[0] == 400
    connection.close()
    assert handler_share(judged, HANDLER_P99_SECONDS) >= 0.99


def review_of(obj: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """Return what the API server would send."""
    resource = {"group": "vllm-operator.io", "version": "v1alpha1", "resource": "vllmdeployments"}
    kind = {"group": "vllm-operator.io", "version": "v1alpha1", "kind": "VLLMDeployment"}
    update = dice.random() < 0.5
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": f"{dice.getrandbits(128):032x}",
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": "model",
            "namespace": obj["metadata"]["namespace"],
            "operation": "UPDATE" if update else "CREATE",
            "userInfo": {"username": "kubernetes-admin", "groups": ["system:masters"]},
            "object": {**obj, "metadata": {**obj["metadata"], "uid": "cr-1", "generation": 1}},
            "oldObject": {**obj, "spec": {"model": {"uri": LLAMA_8B}}} if update else None,
            "dryRun": dice.random() < 0.5,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    }


def handler_share(scene: Scene, seconds: float) -> float:
    """Return the share of reviews that the handler answered within that time."""
    buckets = re.findall(r'vllm_operator_admission_seconds_bucket\{answer="\w+",le="([^"]+)"\} (\S+)', scene.metrics())
    within = sum(float(count) for limit, count in buckets if limit == str(seconds))
    total = sum(float(count) for limit, count in buckets if limit == "+Inf")
    return within / total


def test_nodes_and_pods_that_lie_mislead_nobody_else(judged: Scene, bare_namespace: str, server: Connection) -> None:
    dice = random.Random(SEED)
    template = judged.api.get("Node", "gpu-h100-0")
    pods = f"/api/v1/namespaces/{bare_namespace}/pods"
    taken = 0
    for number in range(CASES):
        name = f"hostile-{number}"
        node_status, body = server.send(
            "POST", f"/api/v1/nodes?{NO_WARNINGS}", as_json(lying_node(template, name, dice))
        )
        assert node_status < 500, body[:1000]
        pod_status, body = server.send("POST", f"{pods}?{NO_WARNINGS}", as_json(lying_pod(bare_namespace, name, dice)))
        assert pod_status < 500, body[:1000]
        taken += (node_status < 300) + (pod_status < 300)
        if number % BATCH == BATCH - 1:
            server.send("DELETE", "/api/v1/nodes?labelSelector=hostile%3Dtrue")
            server.send("DELETE", f"{pods}?gracePeriodSeconds=0")
    assert taken > CASES / 4, "most would be refused by the API server and never reach the operator"
    server.send("DELETE", "/api/v1/nodes?labelSelector=hostile%3Dtrue")
    asked = Asked(judged.api, bare_namespace, dice)
    asked.create(3)
    asked.wait()


def lying_node(template: dict[str, Any], name: str, dice: random.Random) -> dict[str, Any]:
    """Return a node of which labels, annotations, quantities, taints or conditions are not what they should be."""
    labels = hostile_strings(template["metadata"]["labels"], dice, longest=63)
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**labels, "hostile": "true"}, "annotations": {}},
        "spec": {},
        "status": {
            "capacity": hostile_strings(template["status"]["capacity"], dice, longest=40),
            "allocatable": hostile_strings(template["status"]["allocatable"], dice, longest=40),
            "conditions": [{"type": "Ready", "status": dice.choice(("True", "False", "Unknown"))}],
        },
    }
    annotations = ("hami.io/node-nvidia-register", "example.com/gpus", "cluster-autoscaler.kubernetes.io/x")
    node["metadata"]["annotations"] = hostile_strings(dict.fromkeys(annotations, "[]"), dice, longest=2000)
    return hostile(node, dice, within=dice.choice(("spec", "status"))) if dice.random() < 0.2 else node


def lying_pod(namespace: str, name: str, dice: random.Random) -> dict[str, Any]:
    """Return a pod, perhaps one that claims to be ours, that asks for absurd amounts."""
    ours = {
        "app.kubernetes.io/managed-by": "vllm-operator",
        "app.kubernetes.io/instance": "nobody",
        "app.kubernetes.io/name": "vllm",
    }
    amounts = {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}
    limits = hostile_strings(amounts, dice, longest=40)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": ours if dice.random() < 0.5 else {}},
        "spec": {
            "nodeName": dice.choice((name, "gpu-h100-0", "nowhere")),
            "containers": [{"name": "engine", "image": "example.com/x", "resources": {"limits": limits}}],
        },
    }
    return hostile(pod, dice, within="spec") if dice.random() < 0.2 else pod
