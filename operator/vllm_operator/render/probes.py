"""When a pod has started, serves, and hangs.

vLLM opens its port only once the engine runs, so `/health` says that the engine lives, and `/v1/models` that the model
is registered under its name. The startup probe waits for the latter; from then on `/health` decides, which vLLM answers
with 503 when the engine is dead.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.render.environment import API_KEY_VARIABLE

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.render.budgets import Budgets

PORT_NAME: Final = "http"
HEALTH_PATH: Final = "/health"
MODELS_PATH: Final = "/v1/models"


def startup_probe(spec: VLLMDeploymentSpec, budgets: Budgets) -> dict[str, Any]:
    """Return the probe that gates the others; its budget covers download, load and compilation."""
    return {
        "httpGet": {"path": HEALTH_PATH if _may_need_key(spec) else MODELS_PATH, "port": PORT_NAME},
        "periodSeconds": budgets.probe_period_seconds,
        "timeoutSeconds": 5,
        "failureThreshold": budgets.startup_failure_threshold,
    }


def readiness_probe() -> dict[str, Any]:
    """Return the probe that decides on traffic: out after 15 s without an answer, back with the first one."""
    return {"httpGet": _health(), "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3}


def liveness_probe() -> dict[str, Any]:
    """Return the probe that restarts a hung server.

    Two minutes of silence: a busy server may answer late, and a restart costs the whole load again.
    """
    return {"httpGet": _health(), "periodSeconds": 20, "timeoutSeconds": 15, "failureThreshold": 6}


def _health() -> dict[str, Any]:
    return {"path": HEALTH_PATH, "port": PORT_NAME}


def _may_need_key(spec: VLLMDeploymentSpec) -> bool:
    """Whether the API may answer 401 to the kubelet: its key is set, or the overlay brings variables unseen."""
    if any(variable.name == API_KEY_VARIABLE for variable in spec.engine.env):
        return True
    overlay = json.dumps(spec.pod_template, default=str)
    return API_KEY_VARIABLE in overlay or '"envFrom"' in overlay
