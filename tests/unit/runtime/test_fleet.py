"""A change of the cluster re-judges those that it concerns, and nobody else."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from tests.unit.runtime.test_queue import in_virtual_time
from tests.unit.runtime.test_reconciler import node, our_pod, resource

from vllm_operator.api.v1alpha1 import parse_deployment
from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.cluster.state import ClusterState
from vllm_operator.models import catalogue
from vllm_operator.planning.decide import plan
from vllm_operator.runtime.fleet import LONGEST_DELAY_SECONDS, QUIET_SECONDS, Fleet

KEY = "team/model"
H100, L4, T4 = (
    node("h100"),
    node("l4", memory_mib=23034, gpus=1, product="NVIDIA-L4"),
    node("t4", memory_mib=15360, gpus=1, product="Tesla-T4"),
)


class Watched:
    """One judged deployment that asks for H100s, and what the fleet queued."""

    def __init__(self, *nodes: dict[str, Any], bound_to: str | None = None) -> None:
        self.cluster = ClusterState()
        for obj in nodes:
            self.cluster.upsert_node(project_node(obj))
        if bound_to is not None:
            self.take(our_pod(bound_to))
        self.queued: list[str] = []
        self.first = asyncio.Event()
        self.fleet = Fleet(self.cluster.snapshot, self._queue)
        self.judge()

    def judge(self, key: str = KEY) -> None:
        deployment = parse_deployment(resource(gpu={"products": ["*H100*"]}))
        inventory = self.cluster.snapshot()
        facts = catalogue.lookup(deployment.spec.model.uri)
        self.fleet.judged(key, plan(deployment.spec, facts, inventory.crediting(key)), inventory)

    def _queue(self, key: str) -> None:
        self.queued.append(key)
        self.first.set()

    def take(self, pod: dict[str, Any]) -> None:
        pod["spec"]["containers"] = [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "8"}}}]
        record = project_pod(pod)
        assert record is not None
        self.cluster.upsert_pod(record)


def other_pod(node_name: str) -> dict[str, Any]:
    pod = our_pod(node_name)
    pod["metadata"] |= {"labels": {}, "uid": "other", "name": "other"}
    return pod


async def test_a_node_that_it_could_use_concerns_it() -> None:
    watched = Watched(T4)
    watched.cluster.upsert_node(project_node(H100))
    await watched.fleet.pass_on()
    assert watched.queued == [KEY]


async def test_a_node_of_a_class_that_it_does_not_allow_is_nothing_to_it() -> None:
    watched = Watched(H100)
    watched.cluster.upsert_node(project_node(L4))
    await watched.fleet.pass_on()
    assert watched.queued == []


async def test_the_loss_of_its_node_concerns_it() -> None:
    watched = Watched(H100, T4, bound_to="h100")
    watched.cluster.remove_node("h100")
    await watched.fleet.pass_on()
    assert watched.queued == [KEY]


async def test_once_its_pods_have_their_gpus_what_others_take_is_nothing_to_it() -> None:
    second = node("h100-b")
    watched = Watched(H100, second, bound_to="h100")
    watched.take(other_pod("h100-b"))
    await watched.fleet.pass_on()
    assert watched.queued == []


async def test_once_its_pods_have_their_gpus_a_like_node_that_it_may_not_use_is_nothing_to_it() -> None:
    watched = Watched(H100, bound_to="h100")
    other = node("other")
    other["spec"] = {"taints": [{"key": "team", "value": "search", "effect": "NoSchedule"}]}
    watched.cluster.upsert_node(project_node(other))
    await watched.fleet.pass_on()
    assert watched.queued == []

    watched.cluster.upsert_node(project_node(node("h100", gpus=7)))
    await watched.fleet.pass_on()
    assert watched.queued == [KEY]


async def test_while_it_waits_for_gpus_what_others_take_concerns_it() -> None:
    watched = Watched(H100)
    watched.take(other_pod("h100"))
    await watched.fleet.pass_on()
    assert watched.queued == [KEY]


class Counted:
    """Counts every call that Python code makes, in whatever function."""

    def __enter__(self) -> Counted:
        self.calls = 0
        sys.setprofile(self._seen)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _seen(self, frame: object, event: str, argument: object) -> None:
        self.calls += event == "call"


async def calls_for_a_foreign_pod(nodes: int, deployments: int) -> int:
    """Return how many calls the news of one small pod of somebody else costs on a cluster of some size."""
    watched = Watched(*(node(f"h100-{number:03d}") for number in range(nodes)))
    inventory = watched.cluster.snapshot()
    deployment = parse_deployment(resource(gpu={"products": ["*H100*"]}))
    found = plan(deployment.spec, catalogue.lookup(deployment.spec.model.uri), inventory)
    for number in range(deployments):
        watched.fleet.judged(f"team/model-{number}", found, inventory)
    small = other_pod("h100-001")
    small["spec"]["containers"] = [{"name": "c", "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}}}]
    record = project_pod(small)
    assert record is not None
    with Counted() as counted:
        assert watched.cluster.upsert_pod(record)
        await watched.fleet.pass_on()
    assert watched.queued == []
    return counted.calls


async def test_a_foreign_pod_costs_the_same_on_a_large_cluster_with_many_deployments() -> None:
    """Only the node that it is on is looked at, and once for all deployments that ask the same."""
    assert await calls_for_a_foreign_pod(nodes=40, deployments=200) == await calls_for_a_foreign_pod(2, 1)


async def test_what_a_change_did_not_concern_is_compared_with_the_newest_inventory_from_then_on() -> None:
    watched = Watched(H100, node("h100-b"))
    watched.cluster.upsert_node(project_node(L4))
    await watched.fleet.pass_on()
    with Counted() as counted:
        await watched.fleet.pass_on()
    assert counted.calls < 20
    watched.cluster.remove_node("h100")
    await watched.fleet.pass_on()
    assert watched.queued == [KEY]


async def test_each_change_is_told_until_the_deployment_is_judged_anew() -> None:
    watched = Watched(T4)
    watched.cluster.upsert_node(project_node(H100))
    await watched.fleet.pass_on()
    watched.cluster.upsert_node(project_node(L4))
    await watched.fleet.pass_on()
    assert watched.queued == [KEY, KEY]
    watched.judge()
    watched.cluster.remove_node("l4")
    await watched.fleet.pass_on()
    assert watched.queued == [KEY, KEY]


async def test_only_those_without_their_gpus_are_queued_of_several_that_ask_the_same() -> None:
    watched = Watched(H100, node("h100-b"), bound_to="h100")
    watched.judge("team/waiting")
    taking = other_pod("h100-b")
    watched.take(taking)
    await watched.fleet.pass_on()
    assert watched.queued == ["team/waiting"]


async def test_nothing_is_kept_of_those_that_are_gone() -> None:
    watched = Watched(H100)
    watched.judge("team/other")
    watched.cluster.upsert_node(project_node(T4))
    await watched.fleet.pass_on()
    watched.fleet.forget(KEY)
    watched.fleet.forget("team/other")
    assert watched.fleet.entries() == 0


async def test_a_deployment_that_is_gone_is_not_queued() -> None:
    watched = Watched(T4)
    watched.fleet.forget(KEY)
    watched.cluster.upsert_node(project_node(H100))
    await watched.fleet.pass_on()
    assert watched.queued == []


@pytest.mark.parametrize(
    ("changes", "latest_seconds"),
    [(1, 2 * QUIET_SECONDS), (100, LONGEST_DELAY_SECONDS + 2 * QUIET_SECONDS)],
    ids=["once it is quiet", "not for ever"],
)
def test_changes_are_gathered(changes: int, latest_seconds: float) -> None:
    async def main() -> None:
        watched = Watched(T4)
        loop = asyncio.get_running_loop()
        running = asyncio.ensure_future(watched.fleet.run())
        began = loop.time()
        watched.cluster.upsert_node(project_node(H100))
        for number in range(changes):
            loop.call_later(number * 0.1, watched.fleet.changed)
        async with asyncio.timeout(latest_seconds + 0.01):
            await watched.first.wait()
        assert loop.time() - began >= QUIET_SECONDS
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(main())
