"""Optional kinds are listed before they count, found later when they come, and forgotten when they go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.unit.runtime.fake_kube import FakeKube
from tests.unit.runtime.test_queue import in_virtual_time

from vllm_operator.runtime.children import Children
from vllm_operator.runtime.kube import (
    DISRUPTION_BUDGETS,
    LEADER_WORKER_SETS,
    POD_MONITORS,
    SOUGHT_CHILDREN,
    ApiError,
    Unreachable,
)
from vllm_operator.runtime.optional import OptionalKinds
from vllm_operator.runtime.optional_watch import LOOK_AGAIN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from vllm_operator.runtime.kube import Resource

RESYNC_SECONDS = 120.0
SOON = 0.001


class Stage:
    """Optional kinds over an API server in memory, which has no optional kind but PodDisruptionBudgets."""

    def __init__(self, namespaces: tuple[str | None, ...] = (None,)) -> None:
        self.kube = FakeKube()
        self.kube.absent = {resource.plural for resource in SOUGHT_CHILDREN} - {DISRUPTION_BUDGETS.plural}
        self.children = Children()
        self.queued: list[str] = []
        self.seen: list[frozenset[str]] = []
        self.kinds = OptionalKinds(
            self.kube,
            self.children,
            namespaces,
            queue=self.queued.append,
            changed=lambda: self.seen.append(self.kinds.served),
            resync_seconds=RESYNC_SECONDS,
            jitter=lambda: 1.0,
        )

    def fail(self, resource: Resource, error: Exception, *, namespace: str | None = None) -> None:
        """Have every list of a kind, in one namespace, fail from now on."""
        answers = self.kube.list

        async def answer(asked: Resource, where: str | None, **options: Any) -> Any:
            if asked == resource and where == namespace:
                raise error
            return await answers(asked, where, **options)

        self.kube.list = answer  # type: ignore[method-assign]


def on_stage(stage: Stage, play: Callable[[], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(watcher.run()) for watcher in stage.kinds.watchers]
        await asyncio.sleep(SOON)
        await play()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    in_virtual_time(main())


def monitor() -> dict[str, Any]:
    owner = {"kind": "VLLMDeployment", "name": "model", "uid": "cr-1", "controller": True}
    return {"kind": "PodMonitor", "metadata": {"name": "model", "namespace": "team", "ownerReferences": [owner]}}


def test_what_is_served_is_known_before_anything_is_reconciled() -> None:
    stage = Stage()

    async def play() -> None:
        assert all(watcher.synced.is_set() for watcher in stage.kinds.watchers)
        assert stage.kinds.served == {"PodDisruptionBudget"}

    on_stage(stage, play)


def test_an_api_that_is_installed_later_is_found_with_the_objects_that_are_ours() -> None:
    stage = Stage()

    async def play() -> None:
        stage.kube.put(POD_MONITORS, monitor())
        stage.kube.absent.discard(POD_MONITORS.plural)
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        assert stage.kinds.served == {"PodDisruptionBudget", "PodMonitor"}
        assert stage.seen[-1] == stage.kinds.served
        assert ("PodMonitor", "model") in stage.children.of("team/model")

    on_stage(stage, play)


def test_an_api_that_is_removed_is_forgotten_with_its_objects() -> None:
    stage = Stage()
    stage.kube.put(POD_MONITORS, monitor())
    stage.kube.absent.discard(POD_MONITORS.plural)

    async def play() -> None:
        assert stage.kinds.served == {"PodDisruptionBudget", "PodMonitor"}
        stage.kube.absent.add(POD_MONITORS.plural)
        await asyncio.sleep(RESYNC_SECONDS)
        assert stage.kinds.served == {"PodDisruptionBudget"}
        assert stage.seen[-1] == stage.kinds.served
        assert stage.children.of("team/model") == {}

    on_stage(stage, play)


def test_a_kind_that_may_not_be_listed_is_not_served_until_it_may() -> None:
    stage = Stage()
    stage.fail(DISRUPTION_BUDGETS, ApiError(403, "Forbidden", "poddisruptionbudgets is forbidden"))

    async def play() -> None:
        assert stage.kinds.served == frozenset()
        assert all(watcher.synced.is_set() for watcher in stage.kinds.watchers)
        del stage.kube.list  # type: ignore[method-assign]
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        assert stage.kinds.served == {"PodDisruptionBudget"}

    on_stage(stage, play)


def test_what_runs_stays_known_when_the_right_to_list_it_is_lost() -> None:
    stage = Stage()
    stage.kube.put(LEADER_WORKER_SETS, {**monitor(), "kind": "LeaderWorkerSet"})
    stage.kube.absent.discard(LEADER_WORKER_SETS.plural)
    forbidden = ApiError(403, "Forbidden", "leaderworkersets is forbidden")

    async def play() -> None:
        before = len(stage.seen)
        stage.fail(LEADER_WORKER_SETS, forbidden)
        await asyncio.sleep(2 * RESYNC_SECONDS)
        assert stage.kinds.capabilities().leader_worker_sets, "its plan stays one over several nodes"
        assert stage.children.workload("team/model", "Deployment") is not None
        assert stage.kinds.unread == {"LeaderWorkerSet": str(forbidden)}
        assert len(stage.seen) == before + 1, "told once, not at every look"
        del stage.kube.list  # type: ignore[method-assign]
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        assert stage.kinds.unread == {}
        stage.kube.absent.add(LEADER_WORKER_SETS.plural)
        await asyncio.sleep(2 * RESYNC_SECONDS)
        assert not stage.kinds.capabilities().leader_worker_sets
        assert stage.children.of("team/model") == {}, "an API that is removed takes its objects along"

    on_stage(stage, play)


def test_a_kind_is_served_when_it_is_in_every_namespace_that_is_watched() -> None:
    stage = Stage(("one", "two"))
    stage.fail(DISRUPTION_BUDGETS, ApiError(403, "Forbidden", "forbidden in two"), namespace="two")

    async def play() -> None:
        assert stage.kinds.served == frozenset()
        assert stage.seen == []

    on_stage(stage, play)


def test_a_server_that_does_not_answer_takes_nothing_back() -> None:
    stage = Stage()

    async def play() -> None:
        stage.fail(DISRUPTION_BUDGETS, Unreachable("no route"))
        await asyncio.sleep(2 * RESYNC_SECONDS)
        assert stage.kinds.served == {"PodDisruptionBudget"}
        assert stage.seen == [stage.kinds.served]

    on_stage(stage, play)


def test_an_api_that_is_broken_keeps_nobody_waiting_for_long() -> None:
    stage = Stage()
    stage.fail(POD_MONITORS, ApiError(500, "InternalError", "conversion webhook failed"))

    async def play() -> None:
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        assert all(watcher.synced.is_set() for watcher in stage.kinds.watchers)
        assert stage.kinds.served == {"PodDisruptionBudget"}

    on_stage(stage, play)


def test_an_api_that_is_just_being_set_up_is_waited_for() -> None:
    stage = Stage()
    stage.fail(DISRUPTION_BUDGETS, ApiError(429, "TooManyRequests", "storage is (re)initializing"))

    async def play() -> None:
        (watcher,) = (each for each in stage.kinds.watchers if each.resource == DISRUPTION_BUDGETS)
        assert not watcher.synced.is_set()
        del stage.kube.list  # type: ignore[method-assign]
        await watcher.synced.wait()
        assert stage.kinds.served == {"PodDisruptionBudget"}

    on_stage(stage, play)
