"""The rendered pod runs unchanged on a real node under Pod Security `restricted`, and its probes do their work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from tests.node.served import NAMESPACE, ask, engine_status, is_ready, pods

if TYPE_CHECKING:
    from tests.node.node import RealNode
    from tests.node.scene import NodeScene

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("models")]

GIB = 1024**3
LONGEST_START_SECONDS = 20
"""Four times what an idle machine with two cores takes."""
HABITS = ("/", "/usr/local/bin", "/etc", "/etc/vllm-operator", "/var", "/run", "/home", "/root", "/sys", "/dev")
"""Where a program would write by habit. What the image does not have cannot be written to either."""


def self_of(scene: NodeScene, name: str, *writes: str) -> dict[str, Any]:
    """Return what the engine's process says of itself, having tried to write to directories."""
    status, text = ask(scene, name, "GET", f"/standin/self?{urlencode([('write', path) for path in writes])}")
    assert status == 200, text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_node_is_there_soon_enough_to_be_started_for_a_test(node: RealNode) -> None:
    assert 0 < node.started_within_seconds <= LONGEST_START_SECONDS


def test_the_rendered_pod_runs_unchanged_under_restricted(scene: NodeScene) -> None:
    scene.api.wait("VLLMDeployment", "unchanged", is_ready, NAMESPACE, seconds=60)

    (pod,) = pods(scene, "unchanged")
    (container,) = pod["spec"]["containers"]
    declared = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    found = self_of(scene, "unchanged", *declared, *HABITS)
    process = found["status"]
    assert process["Uid"].split() == ["65532"] * 4
    assert process["Gid"].split() == ["65532"] * 4
    assert {process[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert process["NoNewPrivs"] == "1"
    assert process["Seccomp"] == "2"
    assert {path: found["writes"][path] for path in declared} == dict.fromkeys(declared, "")
    assert [path for path in HABITS if found["writes"][path] == ""] == []
    assert found["args"] == ["serve", *container["args"]]


def test_shared_memory_has_the_declared_size(scene: NodeScene) -> None:
    scene.api.wait("VLLMDeployment", "unchanged", is_ready, NAMESPACE, seconds=60)

    (pod,) = pods(scene, "unchanged")
    (volume,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "shm"]
    assert volume["emptyDir"]["sizeLimit"] == "2Gi"
    assert self_of(scene, "unchanged")["shm_bytes"] == 2 * GIB


def test_a_slow_start_is_waited_for_and_a_hung_server_is_restarted(scene: NodeScene) -> None:
    # Five seconds of silence are more than the liveness probe allows once it is asked.
    scene.api.wait("VLLMDeployment", "slow", is_ready, NAMESPACE, seconds=60)
    (pod,) = pods(scene, "slow")
    assert engine_status(pod)["restartCount"] == 0

    ask(scene, "slow", "POST", "/standin/hang")

    name = pod["metadata"]["name"]
    scene.api.wait("Pod", name, lambda pod: not engine_status(pod)["ready"], NAMESPACE)
    again = scene.api.wait("Pod", name, lambda pod: engine_status(pod)["restartCount"] == 1, NAMESPACE, seconds=60)
    assert engine_status(again)["lastState"]["terminated"]["exitCode"] in (0, 137)
    scene.api.wait("VLLMDeployment", "slow", is_ready, NAMESPACE, seconds=60)
