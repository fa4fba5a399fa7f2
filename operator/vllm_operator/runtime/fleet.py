"""A change of the cluster re-judges the deployments whose answer it can alter, and no others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from vllm_operator.planning.fanout import affected
from vllm_operator.planning.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.cluster.records import GpuOffer

QUIET_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 1.0
_STEP: Final = 64
"""Deployments that are compared before others get their turn on the loop."""


@dataclass(slots=True)
class _Judged:
    plan: Plan
    inventory: Inventory


class Fleet:
    """Knows on what each plan rests, and queues those that a new inventory concerns.

    Changes are gathered until nothing has changed for 0.2 s, for a second at most.
    """

    def __init__(self, snapshot: Callable[[], Inventory], queue: Callable[[str], None]) -> None:
        self._snapshot = snapshot
        self._queue = queue
        self._judged: dict[str, _Judged] = {}
        self._changed = asyncio.Event()

    def entries(self) -> int:
        """Return how much is kept, for whoever watches that it does not grow."""
        return len(self._judged)

    def judged(self, key: str, plan: Plan, inventory: Inventory) -> None:
        """Note that a deployment was planned on an inventory; only what the comparison reads is kept."""
        slim = Plan(
            verdict=plan.verdict,
            oom_risk=plan.oom_risk,
            message="",
            placement=plan.placement,
            inputs_read=plan.inputs_read,
        )
        self._judged[key] = _Judged(slim, inventory)

    def forget(self, key: str) -> None:
        """Forget a deployment."""
        self._judged.pop(key, None)

    def changed(self) -> None:
        """Say that the inventory has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Pass changes on until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            latest = loop.time() + LONGEST_DELAY_SECONDS
            while self._changed.is_set() and loop.time() < latest:
                self._changed.clear()
                await asyncio.sleep(QUIET_SECONDS)
            self._changed.clear()
            await self.pass_on()

    async def pass_on(self) -> None:
        """Queue every deployment whose plan could differ on the inventory of this moment."""
        new = self._snapshot()
        answers: dict[object, bool] = {}
        differences: dict[int, frozenset[object]] = {}
        for number, (key, judged) in enumerate(list(self._judged.items())):
            if number % _STEP == _STEP - 1:
                await asyncio.sleep(0)
            old = judged.inventory
            if old is new or self._judged.get(key) is not judged:
                continue
            if old.version not in differences:
                differences[old.version] = _structural_difference(old, new)
            if self._concerns(key, judged, new, differences[old.version], answers):
                self._queue(key)
            else:
                judged.inventory = new

    @staticmethod
    def _concerns(
        key: str, judged: _Judged, new: Inventory, difference: frozenset[object], answers: dict[object, bool]
    ) -> bool:
        plan, placement = judged.plan, judged.plan.placement
        names = {pod.node_name for pod in new.owned_pods.get(key, ())}
        if placement is not None and names and None not in names:
            # Its pods have their GPUs: what others take or free is nothing to it, a change of the nodes themselves is.
            if not difference.isdisjoint(names):
                return True
            if placement.gpu_class not in difference:
                return False
        inputs = plan.inputs_read
        group = (
            judged.inventory.version,
            inputs.get("gpus"),
            inputs.get("replicas"),
            inputs.get("gpus_per_pod"),
            inputs.get("looks_at_groups"),
            placement.gpu_class if placement is not None else None,
        )
        if group not in answers:
            answers[group] = affected(plan, judged.inventory, new)
        return answers[group]


def _structural_difference(old: Inventory, new: Inventory) -> frozenset[object]:
    """Return the nodes, and the GPU classes on them, that differ in more than in what pods hold."""
    before, after = _by_node(old), _by_node(new)
    found: set[object] = set()
    for name in before.keys() | after.keys():
        then, now = before.get(name, ()), after.get(name, ())
        if then != now and tuple(map(_without_pods, then)) != tuple(map(_without_pods, now)):
            found.add(name)
            found |= {offer.gpu_class for offer in (*then, *now)}
    return frozenset(found)


def _by_node(inventory: Inventory) -> dict[str, tuple[GpuOffer, ...]]:
    found: dict[str, tuple[GpuOffer, ...]] = {}
    for offer in inventory.offers:
        found[offer.node.name] = (*found.get(offer.node.name, ()), offer)
    return found


def _without_pods(offer: GpuOffer) -> GpuOffer:
    return replace(offer, free=0, free_cpu_millis=None, free_memory_bytes=None, free_pods=None)
