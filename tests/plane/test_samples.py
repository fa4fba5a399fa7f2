"""Every sample is admitted by the webhook and the API server, and becomes the objects that it is there to show."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import yaml
from tests.controlplane.client import Refused, condition
from tests.controlplane.scene import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

NODES = ("nodes", "nodes-shared", "nodes-pair")
SAMPLES = sorted(path.stem for path in EXAMPLES.glob("*.yaml") if path.stem not in NODES)
REFUSED = "llama-405b"
ALWAYS = frozenset({"Service", "PodMonitor"})
WORKLOADS = frozenset({"Deployment", "LeaderWorkerSet"})
CLUSTER_SCOPED = ("Node", "PriorityClass")


@dataclass(frozen=True)
class Shown:
    """What a sample becomes: kinds besides those that every model has, and a piece of what its objects say."""

    text: str
    kinds: frozenset[str] = field(default_factory=frozenset)


def _shown(text: str, *kinds: str) -> Shown:
    return Shown(text, frozenset(kinds))


SHOWN = {
    "air-gapped": _shown('{"name": "HF_HUB_OFFLINE", "value": "1"}'),
    "auto-adjust": _shown('"--max-model-len"'),
    "autoscaling-hpa": _shown('"stabilizationWindowSeconds": 900', "HorizontalPodAutoscaler", "PodDisruptionBudget"),
    "autoscaling-keda": _shown('"minReplicaCount": 0', "ScaledObject", "PodDisruptionBudget"),
    "cache-claim": _shown('"storageClassName": "shared-files"', "PersistentVolumeClaim"),
    "cache-host-path": _shown('"path": "/var/lib/vllm-models"'),
    "cache-in-pod": _shown('"ephemeral-storage": "24Gi"'),
    "gateway-route": _shown('"replacePrefixMatch": "/"', "HTTPRoute"),
    "gpu-class": _shown('"value": "search"'),
    "inference-pool": _shown('"failureMode": "FailOpen"', "HTTPRoute", "InferencePool", "PodDisruptionBudget"),
    "llama-70b": _shown('"--tensor-parallel-size"'),
    "llama-8b": _shown('"HF_TOKEN"'),
    "lora": _shown('"--lora-modules"'),
    "mig-slice": _shown('"nvidia.com/mig-3g.40gb": "1"'),
    "monitoring": _shown('"release": "prometheus"'),
    "network-policy": _shown('"serves-models": "true"', "NetworkPolicy"),
    "performance-modes": _shown('"--max-num-batched-tokens"'),
    "pod-template": _shown('"name": "log-shipper"'),
    "priority-and-spread": _shown('"priorityClassName": "models-in-production"', "PodDisruptionBudget"),
    "private-model": _shown('{"key": "token", "name": "hf"}'),
    "quantization": _shown('"--quantization", "fp8"'),
    "qwen3-8b-tight": _shown('"--max-model-len", "8192"'),
    "source-claim": _shown('{"claimName": "models", "readOnly": true}'),
    "source-image": _shown('"reference": "registry.example.com/models/qwen3-8b:2025-04"'),
    "source-s3": _shown('"s3://models/qwen3-8b"'),
    "speculative": _shown('"--speculative-config"'),
    "time-slicing": _shown('"--gpu-memory-utilization", "0.45"'),
    "two-nodes": _shown('"--nnodes", "2"', "LeaderWorkerSet", "PersistentVolumeClaim"),
    "two-replicas": _shown('"maxUnavailable": 1', "PodDisruptionBudget"),
}
CHILDREN = sorted((ALWAYS | WORKLOADS).union(*(shown.kinds for shown in SHOWN.values())))


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))


@pytest.fixture(scope="module")
def applied(scene: Scene, foreign: None, sets: None) -> Iterator[str]:
    """A namespace in which every sample but the refused one has been created, and what they need."""
    api, namespace, shared = scene.api, f"t-{uuid4().hex[:8]}", []
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for name, keys in (("hf", ("token",)), ("s3", ("access-key", "secret-key"))):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}}
        api.create({**secret, "stringData": dict.fromkeys(keys, "made up")})
    for document in (each for name in (*NODES[1:], *SAMPLES) if name != REFUSED for each in _documents(name)):
        if document["kind"] in CLUSTER_SCOPED:
            shared.append(document)
        else:
            document["metadata"]["namespace"] = namespace
        api.create(document)
    yield namespace
    # Nodes go last: what has kept their pods would otherwise not be there to end them.
    _delete(
        api, "VLLMDeployment", [obj["metadata"]["name"] for obj in api.list("VLLMDeployment", namespace)], namespace
    )
    _delete(api, "Pod", [obj["metadata"]["name"] for obj in api.list("Pod", namespace)], namespace)
    for obj in shared:
        _delete(api, obj["kind"], [obj["metadata"]["name"]], namespace)
    api.delete("Namespace", namespace)


def _delete(api: Api, kind: str, names: list[str], namespace: str) -> None:
    for name in names:
        api.delete(kind, name, namespace)
    for name in names:
        api.wait_gone(kind, name, namespace)


def _is_rendered(obj: dict[str, Any]) -> bool:
    rendered = condition(obj, "Rendered")
    return rendered.get("status") == "True" and rendered.get("reason") != "AppliedInPart"


@pytest.mark.parametrize("sample", sorted(set(SAMPLES) - {REFUSED}))
def test_a_sample_is_admitted_and_becomes_what_it_shows(api: Api, applied: str, sample: str) -> None:
    shown = SHOWN[sample]
    names = [document["metadata"]["name"] for document in _documents(sample) if document["kind"] == "VLLMDeployment"]
    assert names
    for name in names:
        api.wait("VLLMDeployment", name, _is_rendered, applied)
        owned = {kind: _owned_by(api, kind, name, applied) for kind in CHILDREN}
        runs = (shown.kinds & WORKLOADS) or {"Deployment"}
        assert {kind for kind, objects in owned.items() if objects} == ALWAYS | runs | shown.kinds
        assert shown.text in json.dumps(owned, sort_keys=True)


def test_the_sample_that_cannot_run_is_refused_with_the_arithmetic(api: Api, applied: str) -> None:
    (document,) = _documents(REFUSED)
    document["metadata"]["namespace"] = applied
    with pytest.raises(Refused, match=r"needs [0-9.]+ GiB per GPU .* offers [0-9.]+ GiB"):
        api.create(document)


def test_every_sample_has_something_to_show() -> None:
    assert {*SHOWN, REFUSED} == set(SAMPLES)


def _owned_by(api: Api, kind: str, name: str, namespace: str) -> list[dict[str, Any]]:
    """Return what was stated of the objects of one deployment."""
    found = api.list(kind, namespace, labelSelector=f"app.kubernetes.io/instance={name}")
    return [{"metadata": {"labels": obj["metadata"]["labels"]}, "spec": obj["spec"]} for obj in found]
