"""A rollout starts its new pod first where there is room for it, and waits for no room that it cannot have."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from tests.plane.machines import gpu_node
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_quotas import set_quota
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.client import Api

pytestmark = pytest.mark.control_plane

LABEL = "vllm-operator.test/pool"
SHORTER = {"spec": {"workload": {"contextLength": 4096}}}
WITH_SURGE = {"maxSurge": 1, "maxUnavailable": 0}
IN_PLACE = {"maxSurge": 0, "maxUnavailable": 1}


@pytest.fixture
def two_gpus(own_nodes: Callable[..., None]) -> dict[str, str]:
    """The selector of a node with two GPUs that nobody else is sent to."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    own_nodes(gpu_node(name, gpus=2, labels={LABEL: name}))
    return {LABEL: name}


def _model(namespace: str, selector: dict[str, str], name: str = "model") -> dict[str, Any]:
    return deployment(namespace, name=name, model=LLAMA_8B, workload=WORKLOAD, gpu={"nodeSelector": selector})


def _rolled_out(obj: dict[str, Any]) -> bool:
    return bool(obj["status"]["observedGeneration"] == 2 and is_ready(obj))


def _rolling(api: Api, namespace: str) -> dict[str, Any]:
    rolling: dict[str, Any] = api.get("Deployment", "model", namespace)["spec"]["strategy"]["rollingUpdate"]
    return rolling


def test_a_model_is_served_throughout_a_rollout_where_there_is_a_free_gpu(
    api: Api, two_gpus: dict[str, str], namespace: str
) -> None:
    api.create(_model(namespace, two_gpus))
    api.wait("VLLMDeployment", "model", is_ready, namespace)
    available: list[int] = []

    def is_new(obj: dict[str, Any]) -> bool:
        status = obj["status"]
        available.append(status.get("availableReplicas", 0))
        arguments = obj["spec"]["template"]["spec"]["containers"][0]["args"]
        current = "4096" in arguments and status["observedGeneration"] == obj["metadata"]["generation"]
        return bool(current and status.get("updatedReplicas") == status["replicas"] == status.get("availableReplicas"))

    api.patch("VLLMDeployment", "model", SHORTER, namespace)
    api.wait("Deployment", "model", is_new, namespace)

    assert _rolling(api, namespace) == WITH_SURGE
    assert len(available) > 1
    assert min(available) >= 1
    api.wait("VLLMDeployment", "model", _rolled_out, namespace)


def test_a_rollout_goes_in_place_where_a_quota_lets_no_pod_more_be_made(
    api: Api, two_gpus: dict[str, str], namespace: str
) -> None:
    set_quota(api, namespace, 1)
    api.create(_model(namespace, two_gpus))
    api.wait("VLLMDeployment", "model", is_ready, namespace)

    api.patch("VLLMDeployment", "model", SHORTER, namespace)
    api.wait("VLLMDeployment", "model", _rolled_out, namespace)

    assert _rolling(api, namespace) == IN_PLACE


def test_a_gpu_that_is_gone_is_not_waited_for(api: Api, two_gpus: dict[str, str], namespace: str) -> None:
    api.create(_model(namespace, two_gpus))
    api.wait("VLLMDeployment", "model", is_ready, namespace)
    assert _rolling(api, namespace) == WITH_SURGE
    # Somebody takes the free GPU.
    api.create(_model(namespace, two_gpus, "other"))
    api.wait("VLLMDeployment", "other", is_ready, namespace)
    assert _rolling(api, namespace) == WITH_SURGE, "nothing rolls: free GPUs that come and go are not followed"

    api.patch("VLLMDeployment", "model", SHORTER, namespace)
    api.wait("VLLMDeployment", "model", _rolled_out, namespace)

    assert _rolling(api, namespace) == IN_PLACE
