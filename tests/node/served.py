"""Models that the stand-in serves on the real node, as users would ask for them; all are applied at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from tests.controlplane.client import condition
from tests.node.layout import ENGINE_IMAGE
from tests.node.network import request
from tests.plane.models import LLAMA_8B, deployment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.node.scene import NodeScene

NAMESPACE: Final = "models"
REACHED_WITHIN_SECONDS: Final = 30
KV_WORDS: Final = (
    "ValueError: To serve at least one request with the model's max seq len (4096), (0.50 GiB KV cache is needed, which"
    " is larger than the available KV cache memory (0.25 GiB). Based on the available memory, the estimated maximum"
    " model length is 2048. Try increasing `gpu_memory_utilization` or decreasing `max_model_len`."
)
"""As vLLM 0.32 says it; tests/unit/runtime/last_words.yaml has the wordings of other releases."""

_LITTLE: Final = {"requests": {"cpu": "0", "memory": "32Mi"}}
"""What several pods beside each other may ask of a machine with two cores."""
_QUICK: Final = {"periodSeconds": 1, "timeoutSeconds": 1}
"""Probes of seconds: what takes minutes as rendered is tried by `make e2e`."""


def applied() -> dict[str, dict[str, Any]]:
    """Return every model by its name: one is rendered without any overlay, the others each show one thing."""
    slow = _overlay(
        startupProbe=_QUICK,
        livenessProbe={**_QUICK, "failureThreshold": 2},
        readinessProbe={**_QUICK, "failureThreshold": 1},
        lifecycle={"preStop": {"sleep": {"seconds": 1}}},
    )
    small = _overlay(resources={**_LITTLE, "limits": {"memory": "48Mi"}})
    return {
        "unchanged": _model("unchanged"),
        "slow": _model("slow", env={"STANDIN_START_SECONDS": "5"}, podTemplate=slow),
        "drained": _model("drained", replicas=2, podTemplate=_overlay(startupProbe=_QUICK)),
        "too-long": _model("too-long", env={"STANDIN_LAST_WORDS": KV_WORDS}, podTemplate=_overlay()),
        "misspelt": _model("misspelt", engine={"extraArgs": ["--no-such-flag"]}, podTemplate=_overlay()),
        "greedy": _model("greedy", env={"STANDIN_ALLOCATE_MIB": "512"}, podTemplate=small),
    }


def _model(name: str, *, env: Mapping[str, str] | None = None, engine: Any = None, **sections: Any) -> dict[str, Any]:
    """Return a VLLMDeployment whose image is the stand-in; `env` tells it what to do wrong."""
    variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
    given = {"image": ENGINE_IMAGE, "version": "0.32.0", "env": variables, **(engine or {})}
    workload = {"contextLength": 4096}
    return deployment(NAMESPACE, name=name, model=LLAMA_8B, workload=workload, engine=given, **sections)


def _overlay(**container: Any) -> dict[str, Any]:
    """Return a podTemplate that changes fields of the engine's container, and its requests to little."""
    return {"spec": {"containers": [{"name": "engine", "resources": _LITTLE, **container}]}}


def is_ready(obj: dict[str, Any]) -> bool:
    """Return whether the operator says that a model is served."""
    return bool(condition(obj, "Ready").get("status") == "True")


def is_degraded(obj: dict[str, Any]) -> bool:
    """Return whether the operator says that its pods suffer."""
    return bool(condition(obj, "Degraded").get("status") == "True")


def service_address(scene: NodeScene, name: str) -> str:
    """Return `host:port` of a model's Service, once kube-proxy leads there: it may be a second behind the pods."""
    spec = scene.api.get("Service", name, NAMESPACE)["spec"]
    address = f"{spec['clusterIP']}:{spec['ports'][0]['port']}"
    deadline = time.monotonic() + REACHED_WITHIN_SECONDS
    while True:
        try:
            request(scene.plane.pid, "GET", address, "/health")
        except OSError:
            assert time.monotonic() < deadline, f"nobody answers at {address}"
            time.sleep(0.1)
        else:
            return address


def ask(scene: NodeScene, name: str, method: str, path: str) -> tuple[int, str]:
    """Return status and text of a model's answer, through its Service."""
    return request(scene.plane.pid, method, service_address(scene, name), path)


def pods(scene: NodeScene, name: str) -> list[dict[str, Any]]:
    """Return a model's pods that are not being deleted."""
    found = scene.api.list("Pod", NAMESPACE, labelSelector=f"app.kubernetes.io/instance={name}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def engine_status(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the status of the engine's container, {} while there is none."""
    found = pod["status"].get("containerStatuses") or [{}]
    status: dict[str, Any] = found[0]
    return status
