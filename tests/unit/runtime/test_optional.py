"""Optional kinds are found, listed before they count, found later when they come, and forgotten when they go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.runtime.fake_kube import FakeKube

from vllm_operator.runtime.children import Children
from vllm_operator.runtime.kube import DISRUPTION_BUDGETS, POD_MONITORS, ApiError, Unreachable
from vllm_operator.runtime.optional import OptionalKinds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vllm_operator.runtime.kube import Resource

SECONDS = 5.0


class Stage:
    """Optional kinds over an API server in memory; `change` waits until they are seen to have changed."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.children = Children()
        self.queued: list[str] = []
        self.changes = asyncio.Event()
        self.kinds = OptionalKinds(
            self.kube,
            self.children,
            (None,),
            queue=self.queued.append,
            changed=self.changes.set,
            look_seconds=0.001,
        )

    async def change(self) -> frozenset[str]:
        async with asyncio.timeout(SECONDS):
            await self.changes.wait()
        self.changes.clear()
        return self.kinds.served


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    made.kube.served.add(DISRUPTION_BUDGETS.plural)
    task = asyncio.create_task(made.kinds.run())
    yield made
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def monitor() -> dict[str, Any]:
    owner = {"kind": "VLLMDeployment", "name": "model", "uid": "cr-1", "controller": True}
    return {"kind": "PodMonitor", "metadata": {"name": "model", "namespace": "team", "ownerReferences": [owner]}}


async def test_what_is_served_is_known_before_anything_is_reconciled(stage: Stage) -> None:
    async with asyncio.timeout(SECONDS):
        await stage.kinds.looked.wait()
    assert stage.kinds.served == {"PodDisruptionBudget"}


async def test_an_api_that_is_installed_later_is_found_with_the_objects_that_are_ours(stage: Stage) -> None:
    await stage.change()
    stage.kube.put(POD_MONITORS, monitor())
    stage.kube.served.add(POD_MONITORS.plural)
    assert await stage.change() == {"PodDisruptionBudget", "PodMonitor"}
    assert ("PodMonitor", "model") in stage.children.of("team/model")


async def test_an_api_that_is_removed_is_forgotten_with_its_objects(stage: Stage) -> None:
    stage.kube.put(POD_MONITORS, monitor())
    await stage.change()
    stage.kube.served.add(POD_MONITORS.plural)
    await stage.change()
    stage.kube.served.discard(POD_MONITORS.plural)
    assert await stage.change() == {"PodDisruptionBudget"}
    assert stage.children.of("team/model") == {}


async def test_a_kind_that_may_not_be_listed_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vllm_operator.runtime.optional.FIRST_LIST_SECONDS", 0.01)
    stage = Stage()
    stage.kube.served |= {DISRUPTION_BUDGETS.plural, POD_MONITORS.plural}
    listed = stage.kube.list

    async def forbidden(resource: Resource, namespace: str | None, *, labels: str = "") -> Any:
        if resource == POD_MONITORS:
            raise ApiError(403, "Forbidden", "podmonitors is forbidden")
        return await listed(resource, namespace, labels=labels)

    stage.kube.list = forbidden  # type: ignore[method-assign]
    task = asyncio.create_task(stage.kinds.run())
    assert await stage.change() == {"PodDisruptionBudget"}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_server_that_does_not_answer_takes_nothing_back(stage: Stage) -> None:
    await stage.change()
    asked = asyncio.Event()

    async def silent(resource: Resource) -> bool:
        asked.set()
        raise Unreachable("no route")

    stage.kube.serves = silent  # type: ignore[method-assign]
    async with asyncio.timeout(SECONDS):
        await asked.wait()
    assert stage.kinds.served == {"PodDisruptionBudget"}
