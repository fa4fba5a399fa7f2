"""What a real kubelet reports of failing engines, and what the operator makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import condition
from tests.node.served import KV_WORDS, NAMESPACE, engine_status, is_degraded, pods

if TYPE_CHECKING:
    from tests.node.scene import NodeScene

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("models")]


def last_end(scene: NodeScene, name: str) -> dict[str, Any]:
    """Return how the engine last ended, as the kubelet says it."""
    (pod,) = pods(scene, name)
    status = engine_status(pod)
    ended = [state["terminated"] for state in (status["state"], status["lastState"]) if "terminated" in state]
    found: dict[str, Any] = ended[0]
    return found


def test_an_error_far_before_the_end_of_the_log_reaches_the_status_with_its_figures(scene: NodeScene) -> None:
    judged = scene.api.wait("VLLMDeployment", "too-long", is_degraded, NAMESPACE, seconds=60)

    degraded = condition(judged, "Degraded")
    assert degraded["reason"] == "KVCacheTooSmall"
    assert "needs 0.50 GiB of KV cache for 4096 tokens and has 0.25 GiB" in degraded["message"]
    assert "set spec.workload.contextLength to at most 2048" in degraded["message"]
    end = last_end(scene, "too-long")
    assert end["exitCode"] == 1
    assert KV_WORDS in end["message"]


def test_a_refused_flag_is_read_from_the_end_of_the_log(scene: NodeScene) -> None:
    judged = scene.api.wait("VLLMDeployment", "misspelt", is_degraded, NAMESPACE, seconds=60)

    degraded = condition(judged, "Degraded")
    assert degraded["reason"] == "InvalidArgument"
    assert "unrecognized arguments: --no-such-flag" in degraded["message"]
    assert last_end(scene, "misspelt")["exitCode"] == 2


def test_a_memory_limit_is_told_as_such(scene: NodeScene) -> None:
    judged = scene.api.wait("VLLMDeployment", "greedy", is_degraded, NAMESPACE, seconds=60)

    assert condition(judged, "Degraded")["reason"] == "OutOfMemory"
    end = last_end(scene, "greedy")
    assert (end["reason"], end["exitCode"]) == ("OOMKilled", 137)
