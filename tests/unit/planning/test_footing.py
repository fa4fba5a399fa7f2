"""What becomes of nodes under running pods, in words with counts."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.runtime.test_reconciler import node

from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.state import ClusterState
from vllm_operator.planning.footing import Change, Footing, Ground, footing_of

L40S = {"memory_mib": 46068, "gpus": 2, "product": "NVIDIA-L40S"}
GROUND = Ground("nvidia.com/gpu", "NVIDIA-L40S", 46068 * 2**20)


def found(*nodes: dict[str, Any], ground: Ground = GROUND) -> Footing | None:
    cluster = ClusterState()
    cluster.replace_nodes([project_node(obj) for obj in nodes])
    return footing_of(ground, [(obj["metadata"]["name"], cluster.offers_on(obj["metadata"]["name"])) for obj in nodes])


def unhealthy(name: str) -> dict[str, Any]:
    obj = node(name, **L40S)
    obj["status"]["allocatable"] = {**obj["status"]["allocatable"], "nvidia.com/gpu": "1"}
    return obj


def not_ready(name: str) -> dict[str, Any]:
    obj = node(name, **L40S)
    obj["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    return obj


def test_a_node_as_it_was_planned_with_says_nothing() -> None:
    assert found(node("a", **L40S)) is None


def test_a_node_that_is_not_known_is_not_judged() -> None:
    assert footing_of(GROUND, [("gone", ClusterState().offers_on("gone"))]) is None


@pytest.mark.parametrize(
    ("obj", "change", "says"),
    [
        (unhealthy("a"), Change.GPUS_UNHEALTHY, "node a offers 1 of its 2 nvidia.com/gpu, the others are unhealthy"),
        (
            node("a", memory_mib=40960, gpus=2, product="NVIDIA-A100-SXM4-40GB"),
            Change.STALE,
            "node a has NVIDIA-A100-SXM4-40GB with 40.0 GiB now, and its pods keep a plan for NVIDIA-L40S with 44.9",
        ),
        (not_ready("a"), Change.NODE_NOT_READY, "node a, on which pods of this model run, is not ready"),
    ],
    ids=["GPUs", "labels", "node"],
)
def test_a_change_is_told_with_its_figures(obj: dict[str, Any], change: Change, says: str) -> None:
    footing = found(obj)
    assert footing is not None
    assert footing.change is change
    assert says in footing.message


def test_the_change_that_tells_most_is_told_and_others_like_it_are_counted() -> None:
    footing = found(unhealthy("a"), not_ready("b"), not_ready("c"), node("d", **L40S))
    assert footing is not None
    assert footing.change is Change.NODE_NOT_READY
    assert footing.message.startswith("node b, ")
    assert footing.message.endswith(" (and 1 more node)")


def test_other_resources_of_the_node_are_none_of_its_business() -> None:
    assert found(unhealthy("a"), ground=Ground("nvidia.com/mig-1g.10gb", "NVIDIA-L40S", 10 * 2**30)) is None
