"""CPU, memory and pod slots: a replica without room for them stays Pending, so the verdict must know them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.planning.fleets import LLAMA_8B, alters, facts, inventory, node, pod, spec

from vllm_operator.planning.decide import plan
from vllm_operator.planning.host import HostNeed, HostRequest, HostRoom
from vllm_operator.planning.plan import Verdict

GIB = 2**30
WORKLOAD = {"contextLength": 8192}


def engine(**resources: dict[str, str]) -> dict[str, Any]:
    return {"name": "engine", "resources": resources}


@pytest.mark.parametrize(
    ("pod_spec", "gpus", "expected"),
    [
        pytest.param({}, 1, HostRequest(2000, 4 * GIB), id="one-gpu"),
        pytest.param({}, 8, HostRequest(9000, 18 * GIB), id="eight-gpus"),
        pytest.param(
            {"containers": [engine(requests={"cpu": "500m"})]}, 8, HostRequest(500, 18 * GIB), id="own-request"
        ),
        pytest.param(
            {"containers": [{"name": "proxy", "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}]},
            1,
            HostRequest(4000, 5 * GIB),
            id="sidecar-with-limits-only",
        ),
        pytest.param(
            {"initContainers": [{"name": "fetch", "resources": {"requests": {"cpu": "5"}}}]},
            1,
            HostRequest(5000, 4 * GIB),
            id="init-container-needs-more",
        ),
        pytest.param({"containers": "nonsense"}, 1, HostRequest(2000, 4 * GIB), id="wrong-shape"),
    ],
)
def test_a_replica_reserves_what_the_scheduler_will_count(
    pod_spec: dict[str, Any], gpus: int, expected: HostRequest
) -> None:
    assert HostNeed.of_template({"spec": pod_spec}).request(gpus) == expected


def limited(memory: str, name: str = "engine") -> dict[str, Any]:
    return {"name": name, "resources": {"limits": {"memory": memory}}}


@pytest.mark.parametrize(
    ("pod_spec", "expected"),
    [
        pytest.param({}, None, id="nothing-stated"),
        pytest.param({"containers": [limited("8Gi")]}, 8 * GIB, id="the-engine-alone"),
        pytest.param({"containers": [limited("8Gi"), limited("1Gi", "proxy")]}, 9 * GIB, id="all-containers"),
        pytest.param({"containers": [limited("8Gi"), {"name": "proxy"}]}, None, id="a-sidecar-without"),
        pytest.param({"containers": [limited("1Gi", "proxy")]}, None, id="the-engine-without"),
        pytest.param({"resources": {"limits": {"memory": "7Gi"}}}, 7 * GIB, id="the-pod-as-a-whole"),
        pytest.param({"containers": [limited("8Gi")], "initContainers": [{"name": "f"}]}, None, id="an-init-container"),
        pytest.param({"containers": "nonsense"}, None, id="wrong-shape"),
    ],
)
def test_a_limit_is_known_where_every_container_states_one(pod_spec: dict[str, Any], expected: int | None) -> None:
    assert HostNeed.of_template({"spec": pod_spec}).limit("memory") == expected


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        pytest.param(HostRoom(8000, 64 * GIB, 110), 4, id="cpu"),
        pytest.param(HostRoom(64000, 9 * GIB, 110), 2, id="memory"),
        pytest.param(HostRoom(64000, 64 * GIB, 1), 1, id="pod-slots"),
        pytest.param(HostRoom(None, None, None), None, id="unknown-refuses-nothing"),
        pytest.param(HostRoom(None, 3 * GIB, None), 0, id="too-small"),
    ],
)
def test_what_is_scarcest_decides(room: HostRoom, expected: int | None) -> None:
    assert room.replicas(HostRequest(2000, 4 * GIB)) == expected


def busy(name: str, **requests: str) -> dict[str, Any]:
    other = pod(name, 0)
    other["spec"]["containers"][0]["resources"] = {"requests": requests}
    return other


def test_free_gpus_on_a_node_without_free_cpu_are_no_room() -> None:
    cluster = inventory(node("H100", "a", 8), busy("a", cpu="95"))
    found = plan(spec(LLAMA_8B, workload=WORKLOAD), facts(LLAMA_8B), cluster)
    assert found.verdict is Verdict.FITS_IF_FREED
    assert "once 2 CPUs, 4.0 GiB of memory and a pod slot beside free GPUs are free" in found.message


def test_a_node_without_a_free_pod_slot_is_no_room() -> None:
    full = node("H100", "a", 8)
    full["status"]["allocatable"] = {**full["status"]["allocatable"], "pods": "1"}
    assert plan(spec(LLAMA_8B, workload=WORKLOAD), facts(LLAMA_8B), inventory(full)).verdict is Verdict.FITS
    found = plan(spec(LLAMA_8B, workload=WORKLOAD), facts(LLAMA_8B), inventory(full, busy("a", cpu="1")))
    assert found.verdict is Verdict.FITS_IF_FREED


def test_a_node_that_is_too_small_for_the_pod_never_fits() -> None:
    small = node("H100", "a", 8)
    small["status"]["allocatable"] = {**small["status"]["allocatable"], "cpu": "1500m"}
    found = plan(spec(LLAMA_8B, workload=WORKLOAD), facts(LLAMA_8B), inventory(small))
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert "one replica asks for 2 CPUs, 4.0 GiB of memory, and no node with 1 GPU has as much" in found.message


def test_a_change_of_free_cpu_that_decides_is_told_to_the_deployments() -> None:
    empty = inventory(node("H100", "a", 8))
    found = plan(spec(LLAMA_8B, workload=WORKLOAD), facts(LLAMA_8B), empty)
    assert not alters(found, empty, inventory(node("H100", "a", 8), busy("a", cpu="40")))
    assert alters(found, empty, inventory(node("H100", "a", 8), busy("a", cpu="95")))
