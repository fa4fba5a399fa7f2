"""Quotas as their watch tells them, and whom a change of them concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.runtime.test_reconciler import node, resource

from vllm_operator.api.v1alpha1 import parse_deployment
from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.cluster.state import ClusterState
from vllm_operator.models import catalogue
from vllm_operator.planning.decide import plan
from vllm_operator.runtime.quotas import QuotaFeed, Quotas

if TYPE_CHECKING:
    from vllm_operator.cluster.quotas import Shortage

KEY = "team/model"
GPU = "nvidia.com/gpu"


def quota(gpus: int, *, namespace: str = "team", name: str = "gpus") -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"hard": {f"requests.{GPU}": str(gpus)}}}


def pod(name: str, *, owner: str | None = None) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "vllm-operator", "app.kubernetes.io/instance": owner} if owner else {}
    container = {"name": "main", "resources": {"limits": {GPU: "1"}}}
    return {
        "metadata": {"name": name, "namespace": "team", "uid": name, "labels": labels},
        "spec": {"containers": [container]},
    }


class World:
    """One deployment of two replicas, and what its feed says."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self.cluster = ClusterState()
        self.cluster.replace_nodes([project_node(node("h100"))])
        for obj in pods:
            self.take(obj)
        self.quotas = Quotas(self.cluster)
        self.changed: list[str] = []
        self.queued: list[str] = []
        self.feed = QuotaFeed(self.quotas, None, self.changed.append, self.queued.append)

    def take(self, obj: dict[str, Any]) -> None:
        record = project_pod(obj)
        assert record is not None
        self.cluster.upsert_pod(record)

    def shortage(self) -> Shortage | None:
        spec = parse_deployment(resource(replicas=2)).spec
        made = plan(spec, catalogue.lookup(spec.model.uri), self.cluster.snapshot().crediting(KEY))
        return self.quotas.shortage(KEY, made)

    def allowed(self) -> int:
        found = self.shortage()
        return 2 if found is None else found.allowed


def test_its_own_pods_are_credited_and_those_of_others_are_not() -> None:
    world = World(pod("own-1", owner="model"), pod("own-2", owner="model"), pod("other"))
    world.feed.upsert(quota(3))
    assert world.allowed() == 2
    world.feed.upsert(quota(2))
    assert world.allowed() == 1
    world.cluster.remove_pod("other")
    assert world.allowed() == 2


def test_another_limit_concerns_the_namespace_and_the_quotas_own_count_those_who_wait() -> None:
    world = World()
    world.feed.upsert(quota(0))
    assert (world.changed, world.queued) == (["team"], [])
    world.quotas.waits(KEY, world.shortage())
    world.quotas.waits("elsewhere/model", world.shortage())

    world.feed.upsert({**quota(0), "status": {"used": {f"requests.{GPU}": "1"}}})

    assert (world.changed, world.queued) == (["team"], [KEY])
    world.quotas.waits(KEY, None)
    world.feed.upsert(quota(0))
    assert world.queued == [KEY]


def test_a_quota_that_is_gone_or_limits_other_things_now_limits_nothing() -> None:
    world = World()
    for end in (lambda: world.feed.remove(quota(0)), lambda: world.feed.upsert(_of_services())):
        world.feed.upsert(quota(0))
        assert world.allowed() == 0
        end()
        assert world.allowed() == 2
    assert world.changed == ["team"] * 4


def _of_services() -> dict[str, Any]:
    return {"metadata": {"namespace": "team", "name": "gpus"}, "spec": {"hard": {"services": "1"}}}


def test_a_list_is_the_whole_truth_about_the_namespaces_that_it_is_of() -> None:
    world = World()
    world.feed.replace([quota(0), quota(5, namespace="other")], 1)
    assert sorted(world.changed) == ["other", "team"]
    QuotaFeed(world.quotas, "other", world.changed.append, world.queued.append).replace([], 2)
    assert world.allowed() == 0
    world.feed.replace([], 3)
    assert world.allowed() == 2
