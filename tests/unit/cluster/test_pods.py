"""What the scheduler counts of a pod."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.cluster.pods import effective_requests, project_pod

GPU = "nvidia.com/gpu"


def container(gpus: int = 0, *, always: bool = False, **requests: str) -> dict[str, Any]:
    wanted: dict[str, Any] = dict(requests)
    if gpus:
        wanted[GPU] = str(gpus)
    body: dict[str, Any] = {"resources": {"requests": wanted}}
    if always:
        body["restartPolicy"] = "Always"
    return body


@pytest.mark.parametrize(
    ("spec", "gpus"),
    [
        ({"containers": [container(1), container(2)]}, 3),
        ({"containers": [container(1)], "initContainers": [container(4)]}, 4),
        ({"containers": [container(4)], "initContainers": [container(1)]}, 4),
        ({"containers": [container(1)], "initContainers": [container(1, always=True)]}, 2),
        ({"containers": [container(1)], "initContainers": [container(1, always=True), container(3)]}, 4),
        ({"containers": [container(1)], "initContainers": [container(3), container(1, always=True)]}, 3),
        ({"containers": [{"resources": {"limits": {GPU: 2}}}]}, 2),
        ({"containers": [{"resources": {"limits": {GPU: 2}, "requests": {"cpu": "1"}}}]}, 2),
        ({"containers": [{}]}, 0),
    ],
    ids=[
        "containers run together",
        "an init container that needs more",
        "an init container that needs less",
        "a sidecar runs beside",
        "a sidecar runs beside a later init container",
        "a sidecar that starts after the init container",
        "a limit is a request",
        "a limit is a request for what is not requested",
        "nothing",
    ],
)
def test_gpus_are_counted_as_the_scheduler_counts_them(spec: dict[str, Any], gpus: int) -> None:
    assert effective_requests(spec).get(GPU, 0) == gpus


def test_overhead_and_pod_level_requests_count_for_cpu_and_memory() -> None:
    spec = {
        "containers": [container(cpu="500m", memory="1Gi")],
        "overhead": {"cpu": "250m", "memory": "128Mi"},
    }
    assert effective_requests(spec) == {"cpu": 750, "memory": 2**30 + 128 * 2**20}
    spec["resources"] = {"requests": {"cpu": "2"}}
    assert effective_requests(spec)["cpu"] == 2250


def test_fractions_of_a_millicore_and_of_a_byte_round_up() -> None:
    assert effective_requests({"containers": [container(cpu="100u", memory="100m")]}) == {"cpu": 1, "memory": 1}


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_holds_nothing(phase: str) -> None:
    spec = {"nodeName": "n", "containers": [container(1)]}
    assert project_pod({"metadata": {"name": "p"}, "spec": spec, "status": {"phase": phase}}) is None


@pytest.mark.parametrize("phase", ["Pending", "Running", "Unknown", None])
def test_a_pod_that_has_not_ended_holds_its_requests(phase: str | None) -> None:
    spec = {"nodeName": "n", "containers": [container(1)]}
    record = project_pod({"metadata": {"name": "p"}, "spec": spec, "status": {"phase": phase}})
    assert record is not None
    assert record.requests == {GPU: 1}


def test_a_pod_that_is_being_deleted_still_holds_its_gpus() -> None:
    metadata = {"name": "p", "deletionTimestamp": "2026-11-23T00:00:00Z"}
    assert project_pod({"metadata": metadata, "spec": {"nodeName": "n", "containers": [container(1)]}}) is not None


def test_our_own_pods_carry_their_owner() -> None:
    labels = {"app.kubernetes.io/managed-by": "vllm-operator", "app.kubernetes.io/instance": "llama"}
    metadata = {"name": "p", "namespace": "team", "labels": labels}
    record = project_pod({"metadata": metadata, "spec": {"containers": [container(1)]}})
    assert record is not None
    assert record.owner == "team/llama"


def test_a_pod_without_requests_counts_only_on_a_node() -> None:
    assert project_pod({"metadata": {"name": "p"}, "spec": {"containers": [{}]}}) is None
    assert project_pod({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{}]}}) is not None
