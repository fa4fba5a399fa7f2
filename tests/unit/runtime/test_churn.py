"""Resources that come and go leave nothing behind: everything that is kept is counted, whoever keeps it."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from tests.unit.runtime.fake_kube import FakeKube
from tests.unit.runtime.test_reconciler import World, node, resource

from vllm_operator.runtime.kube import VLLM_DEPLOYMENTS, ApiError

LIVES = 40
BOUNDED = frozenset({"_plans"})
"""What is a cache with a largest size, and filled by anything: see `planner.MOST_PLANS`."""


def kept(root: object) -> dict[str, int]:
    """Return how many entries each container has that can be reached from an object of ours, by its path."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", root)]
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen or isinstance(value, FakeKube):
            continue
        seen.add(id(value))
        if isinstance(value, dict | set | frozenset | list | tuple | deque):
            found[path] = found.get(path, 0) + len(value)
            inside = value.values() if isinstance(value, dict) else value
            waiting += [(f"{path}[]", item) for item in inside]
        elif type(value).__module__.startswith(("vllm_operator", "tests")):
            names = [*getattr(value, "__dict__", {}), *getattr(type(value), "__slots__", ())]
            waiting += [(f"{path}.{name}", getattr(value, name, None)) for name in names if name not in BOUNDED]
    return found


async def live(world: World, name: str, version: int, *, model: str) -> None:
    """Have one resource come, be reconciled and go, as the watches would tell."""
    obj = resource(version=version, uid=f"cr-{name}", model={"uri": model})
    obj["metadata"]["name"] = name
    world.kube.put(VLLM_DEPLOYMENTS, obj)
    world.resources.upsert(obj)
    await settle(world, f"team/{name}")
    world.watch()
    await settle(world, f"team/{name}")
    gone = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(world.kube._version)}}
    world.resources.remove(gone)
    world.kube.objects.clear()
    world.kube.statuses.clear()
    world.kube._next()
    world.watch()
    await settle(world, f"team/{name}")


async def settle(world: World, *keys: str) -> None:
    """Reconcile keys until nothing waits; what fails is retried as the workers do."""
    for key in keys:
        world.queue.add(key)
    while len(world.queue) or len(world.late) or world.loading():
        if len(world.queue) or len(world.late):
            queue, step = (
                (world.queue, world.reconciler.reconcile)
                if len(world.queue)
                else (world.late, world.reconciler.write_late)
            )
            key = await queue.get()
            try:
                await step(key)
            except ApiError:
                queue.retry(key)
            else:
                queue.succeeded(key)
            finally:
                queue.done(key)
        else:
            await next(entry.task for entry in world.facts._entries.values() if entry.task)


def refuse_every_third(world: World) -> None:
    """Have every third write fail, now for good and now for a moment."""
    counted = iter(range(10**6))

    def refuse(verb: str, kind: str, name: str) -> None:
        number = next(counted)
        if number % 3 == 0:
            raise ApiError(*((422, "Invalid", "no") if number % 2 else (503, "ServiceUnavailable", "later")))

    world.kube.refuse = refuse


@pytest.mark.parametrize("refusing", [False, True], ids=["all goes well", "writes fail"])
@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B-Instruct", "nobody/nothing"], ids=["known", "unknown"])
async def test_resources_that_come_and_go_leave_nothing_behind(model: str, refusing: bool) -> None:
    world = World()
    world.nodes(node("h100"))
    if refusing:
        refuse_every_third(world)
    sizes: list[dict[str, int]] = []
    for round_number in range(3):
        for number in range(LIVES):
            name = f"m-{round_number}-{number}"
            await live(world, name, world.kube._version, model=model)
        world.resources.replace(None, [], world.kube._version + 1)
        for timer in list(world.queue._timers.values()) + list(world.late._timers.values()):
            # The retries that are due some time: nothing is left of the resource that they are about.
            timer.cancel()
            timer._callback(*timer._args)  # type: ignore[attr-defined]
        await settle(world)
        sizes.append(kept(world))
    grown: dict[str, Any] = {path: (sizes[0].get(path, 0), size) for path, size in sizes[-1].items()}
    grown = {path: (before, after) for path, (before, after) in grown.items() if after > before + LIVES / 4}
    assert grown == {}
    assert len(world.resources) == 0
