"""Capacity behind APIs that may be absent: nothing waits for them, and what they say counts at once."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.planning.fleets import node
from tests.unit.runtime.test_queue import in_virtual_time

from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.state import ClusterState
from vllm_operator.runtime.declared import SOURCES, optional_watchers
from vllm_operator.runtime.kube import ApiError, Keep, Resource, as_it_is
from vllm_operator.runtime.optional_watch import LOOK_AGAIN_SECONDS, OptionalWatcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from tests.unit.runtime.fake_kube import Object

GONE = ApiError(404, "NotFound", "the server could not find the requested resource")


class Apis:
    """An API server with some APIs: a list and a stream of events for each, by group version and plural."""

    def __init__(self) -> None:
        self.lists: dict[tuple[str, str], list[Object]] = {}
        self.streams: dict[tuple[str, str], asyncio.Queue[tuple[str, Object]]] = {}
        self.failure: ApiError = GONE
        self.asked: list[str] = []

    def serve(self, api_version: str, plural: str, *objects: Object) -> None:
        self.lists[api_version, plural] = list(objects)
        self.streams[api_version, plural] = asyncio.Queue()

    async def say(self, api_version: str, plural: str, event: str, obj: Object) -> None:
        await self.streams[api_version, plural].put((event, obj))
        await asyncio.sleep(0.01)

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: str = "", keep: Keep = as_it_is
    ) -> tuple[list[Any], str]:
        self.asked.append(f"{resource.api_version}/{resource.plural}")
        found = self.lists.get((resource.api_version, resource.plural))
        if found is None:
            raise self.failure
        return [keep(obj) for obj in found], "1"

    async def watch(
        self, resource: Resource, namespace: str | None, *, version: str, seconds: int, labels: str = ""
    ) -> AsyncIterator[tuple[str, Object]]:
        queue = self.streams[resource.api_version, resource.plural]
        try:
            async with asyncio.timeout(seconds):
                while True:
                    yield await queue.get()
        except TimeoutError:
            return


class Stage:
    """The optional watchers over some APIs."""

    def __init__(self, apis: Apis) -> None:
        self.cluster = ClusterState()
        self.cluster.upsert_node(project_node(node(None, "dra-0", 0)))
        self.changes = 0
        self.watchers: list[OptionalWatcher] = optional_watchers(
            apis,  # type: ignore[arg-type]
            self.cluster,
            self._changed,
            owner_of_pod={"pod-1": "team/model"}.get,
            resync_seconds=600.0,
            jitter=lambda: 1.0,
        )

    def _changed(self) -> None:
        self.changes += 1

    @property
    def offers(self) -> list[tuple[str, bool, int, int]]:
        return [
            (offer.gpu_class.product or "", offer.declared, offer.allocatable, offer.free)
            for offer in self.cluster.snapshot().offers
        ]


def on_stage(apis: Apis, play: Callable[[Stage], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        stage = Stage(apis)
        tasks = [asyncio.create_task(watcher.run()) for watcher in stage.watchers]
        await asyncio.sleep(0.01)
        await play(stage)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    in_virtual_time(main())


def resource_slice(*devices: str, name: str = "dra-0-gpu", driver: str = "gpu.nvidia.com") -> Object:
    attributes = {"type": {"string": "gpu"}, "productName": {"string": "NVIDIA H100 80GB HBM3"}}
    return {
        "metadata": {"name": name},
        "spec": {
            "driver": driver,
            "nodeName": "dra-0",
            "pool": {"name": "dra-0", "generation": 1, "resourceSliceCount": 1},
            "devices": [
                {"name": device, "attributes": attributes, "capacity": {"memory": {"value": "81559Mi"}}}
                for device in devices
            ],
        },
    }


def resource_claim(*devices: str, pod: str = "pod-of-others") -> Object:
    results = [{"request": "gpu", "driver": "gpu.nvidia.com", "pool": "dra-0", "device": device} for device in devices]
    status: Object = {"allocation": {"devices": {"results": results}}} if devices else {}
    status["reservedFor"] = [{"resource": "pods", "name": "a-pod", "uid": pod}]
    return {"metadata": {"name": "claim", "namespace": "team", "uid": "claim-1"}, "status": status}


def node_pool(name: str = "h100") -> Object:
    requirements = [
        {"key": f"karpenter.k8s.aws/instance-gpu-{key}", "operator": "In", "values": [value]}
        for key, value in {"name": "h100", "count": "8", "memory": "81920"}.items()
    ]
    return {
        "metadata": {"name": name},
        "spec": {"limits": {"nvidia.com/gpu": "16"}, "template": {"spec": {"requirements": requirements}}},
    }


def test_without_any_of_these_apis_nothing_waits_and_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    apis = Apis()

    async def play(stage: Stage) -> None:
        assert all(watcher.synced.is_set() for watcher in stage.watchers)
        assert (stage.offers, stage.changes) == ([], 0)
        versions = sum(len(source.versions) for source in SOURCES)
        assert len(apis.asked) == versions
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        assert len(apis.asked) == 2 * versions

    with caplog.at_level(logging.INFO):
        on_stage(apis, play)
    assert caplog.records == []


def test_published_devices_count_and_claims_take_them() -> None:
    apis = Apis()
    apis.serve("resource.k8s.io/v1", "resourceslices", resource_slice("gpu-0", "gpu-1"))
    apis.serve("resource.k8s.io/v1", "resourceclaims", resource_claim("gpu-0"))

    async def play(stage: Stage) -> None:
        assert stage.offers == [("NVIDIA H100 80GB HBM3", False, 2, 1)]
        await apis.say("resource.k8s.io/v1", "resourceclaims", "MODIFIED", resource_claim())
        assert stage.offers == [("NVIDIA H100 80GB HBM3", False, 2, 2)]
        await apis.say("resource.k8s.io/v1", "resourceclaims", "ADDED", resource_claim("gpu-1", "gpu-0"))
        assert stage.offers == [("NVIDIA H100 80GB HBM3", False, 2, 0)]
        await apis.say("resource.k8s.io/v1", "resourceclaims", "DELETED", resource_claim("gpu-1", "gpu-0"))
        await apis.say("resource.k8s.io/v1", "resourceslices", "MODIFIED", resource_slice("gpu-0"))
        assert stage.offers == [("NVIDIA H100 80GB HBM3", False, 1, 1)]
        await apis.say("resource.k8s.io/v1", "resourceslices", "DELETED", resource_slice("gpu-0"))
        assert stage.offers == []

    on_stage(apis, play)


def test_what_the_scheduler_claimed_for_our_pod_is_credited_to_its_deployment() -> None:
    apis = Apis()
    apis.serve("resource.k8s.io/v1", "resourceslices", resource_slice("gpu-0"))
    apis.serve("resource.k8s.io/v1", "resourceclaims", resource_claim("gpu-0", pod="pod-1"))

    async def play(stage: Stage) -> None:
        assert [offer.free for offer in stage.cluster.snapshot().offers] == [0]
        assert [offer.free for offer in stage.cluster.snapshot().crediting("team/model").offers] == [1]
        assert [offer.free for offer in stage.cluster.snapshot().crediting("team/other").offers] == [0]

    on_stage(apis, play)


def test_an_older_version_of_an_api_is_read_where_the_newest_is_not_served() -> None:
    apis = Apis()
    apis.serve("resource.k8s.io/v1beta2", "resourceslices", resource_slice("gpu-0"))

    async def play(stage: Stage) -> None:
        assert [allocatable for _, _, allocatable, _ in stage.offers] == [1]

    on_stage(apis, play)


def test_slices_of_other_drivers_change_nothing() -> None:
    apis = Apis()
    apis.serve("resource.k8s.io/v1", "resourceslices", resource_slice("nic-0", driver="dra.net"))

    async def play(stage: Stage) -> None:
        await apis.say("resource.k8s.io/v1", "resourceslices", "MODIFIED", resource_slice("nic-0", driver="dra.net"))
        assert (stage.offers, stage.changes) == ([], 0)

    on_stage(apis, play)


def test_an_api_that_comes_later_is_found_and_one_that_goes_takes_its_capacity_along() -> None:
    apis = Apis()

    async def play(stage: Stage) -> None:
        apis.serve("karpenter.sh/v1", "nodepools", node_pool())
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        assert stage.offers == [("h100", True, 8, 0)] * 2
        await apis.say("karpenter.sh/v1", "nodepools", "DELETED", node_pool())
        assert stage.offers == []
        await apis.say("karpenter.sh/v1", "nodepools", "ADDED", node_pool())
        assert len(stage.offers) == 2
        apis.lists.clear()
        await asyncio.sleep(601)
        assert stage.offers == []

    on_stage(apis, play)


def test_a_flavor_counts_once_its_queue_gives_it_a_quota() -> None:
    apis = Apis()
    apis.serve("kueue.x-k8s.io/v1beta2", "resourceflavors")
    apis.serve("kueue.x-k8s.io/v1beta2", "clusterqueues")
    flavor = {
        "metadata": {"name": "h100"},
        "spec": {"nodeLabels": {"node.kubernetes.io/instance-type": "p5.48xlarge"}},
    }
    quota = {"name": "nvidia.com/gpu", "nominalQuota": "8"}
    queue = {
        "metadata": {"name": "team"},
        "spec": {"resourceGroups": [{"flavors": [{"name": "h100", "resources": [quota]}]}]},
    }

    async def play(stage: Stage) -> None:
        await apis.say("kueue.x-k8s.io/v1beta2", "resourceflavors", "ADDED", flavor)
        assert stage.offers == []
        await apis.say("kueue.x-k8s.io/v1beta2", "clusterqueues", "ADDED", queue)
        assert [(declared, allocatable) for _, declared, allocatable, _ in stage.offers] == [(True, 8)]

    on_stage(apis, play)


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(ApiError(403, "Forbidden", "nodepools.karpenter.sh is forbidden"), id="forbidden"),
        pytest.param(ApiError(500, "InternalError", "conversion webhook failed"), id="broken"),
    ],
)
def test_an_api_that_cannot_be_read_is_said_and_keeps_nobody_waiting(
    failure: ApiError, caplog: pytest.LogCaptureFixture
) -> None:
    apis = Apis()
    apis.failure = failure

    async def play(stage: Stage) -> None:
        await asyncio.sleep((10 if failure.status == 403 else 1) * LOOK_AGAIN_SECONDS)
        assert all(watcher.synced.is_set() for watcher in stage.watchers)

    with caplog.at_level(logging.WARNING):
        on_stage(apis, play)
    said: list[Any] = [getattr(record, "resource", None) for record in caplog.records]
    assert set(said) == {source.versions[0].plural for source in SOURCES}
    if failure.status == 403:
        assert len(said) == len(SOURCES)
