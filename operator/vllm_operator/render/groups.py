"""What tells the pods of a group apart: the leader serves, the workers hold the later stages and serve nobody.

Sources: vllm/engine/arg_utils.py and `run_headless` in vllm/entrypoints/cli/serve.py@0.33.0; LeaderWorkerSet puts
`LWS_LEADER_ADDRESS` and `LWS_WORKER_INDEX` in the place of every container's variables (pkg/utils/pod, since 0.6.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.pod_template import ENGINE_CONTAINER
from vllm_operator.planning.flags import flags_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.render.budgets import Budgets

LEADER: Final = "leader"
WORKER: Final = "worker"

RENDEZVOUS_PORT: Final = 29501
"""vLLM's own default of --master-port, stated so that an update cannot move it."""

_PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")


def rank_arguments(role: str, version: str, times: Budgets) -> list[str]:
    """Return what makes one process of several one engine; how many nodes there are is part of the plan.

    The kubelet fills in `$(NAME)` from the container's variables.
    """
    arguments = ["--master-addr", "$(LWS_LEADER_ADDRESS)", "--master-port", str(RENDEZVOUS_PORT)]
    arguments += ["--node-rank", "$(LWS_WORKER_INDEX)"]
    if flags_of(version).has("distributed-timeout-seconds"):
        # Its default is ten minutes: a node that still pulls the image, or downloads weights, would end the others.
        arguments += ["--distributed-timeout-seconds", str(times.progress_deadline_seconds)]
    return arguments if role == LEADER else [*arguments, "--headless"]


def without_probes(overlay: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the user's pod template without the probes of the engine: a worker has no port to probe."""
    spec = overlay.get("spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("containers"), list):
        return overlay
    containers = [
        {key: value for key, value in container.items() if key not in _PROBES}
        if isinstance(container, dict) and container.get("name") == ENGINE_CONTAINER
        else container
        for container in spec["containers"]
    ]
    return {**overlay, "spec": {**spec, "containers": containers}}
