"""A change of the cluster re-judges the deployments whose answer it can alter, and no others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vllm_operator.planning.fanout import Change, affected, question_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.planning.fanout import Question
    from vllm_operator.planning.plan import Plan

QUIET_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Cohort:
    """Deployments whose plans have the same question, judged on the same inventory: one answer is for all of them."""

    question: Question | None
    inventory: Inventory
    keys: set[str] = field(default_factory=set)


class Fleet:
    """Knows on what each plan rests, and queues those that a new inventory concerns.

    Changes are gathered until nothing has changed for 0.2 s, for a second at most.
    """

    def __init__(self, snapshot: Callable[[], Inventory], queue: Callable[[str], None]) -> None:
        self._snapshot = snapshot
        self._queue = queue
        self._cohorts: dict[tuple[Question | None, int], _Cohort] = {}
        self._cohort_of: dict[str, _Cohort] = {}
        self._changed = asyncio.Event()

    def entries(self) -> int:
        """Return how much is kept, for whoever watches that it does not grow."""
        return len(self._cohort_of) + len(self._cohorts)

    def judged(self, key: str, plan: Plan, inventory: Inventory) -> None:
        """Note that a deployment was planned on an inventory; only what the comparison reads is kept."""
        self.forget(key)
        self._join(question_of(plan), inventory, {key})

    def forget(self, key: str) -> None:
        """Forget a deployment."""
        cohort = self._cohort_of.pop(key, None)
        if cohort is not None:
            cohort.keys.discard(key)
            self._drop_if_empty(cohort)

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
        changes: dict[int, Change] = {}
        for cohort in list(self._cohorts.values()):
            # A comparison may take a look at all nodes: others get their turn on the loop.
            await asyncio.sleep(0)
            old = cohort.inventory
            if old is new or not cohort.keys:
                continue
            if old.version not in changes:
                changes[old.version] = Change.between(old, new)
            self._look_at(cohort, changes[old.version])

    def _look_at(self, cohort: _Cohort, change: Change) -> None:
        """Queue whom the change concerns; the others are as if they had been judged after it."""
        alters = cohort.question is None or affected(cohort.question, change)
        concerned = set()
        if alters or change.rebuilt:
            concerned = {key for key in cohort.keys if _concerns(key, cohort.question, change, alters)}
        for key in concerned:
            self._queue(key)
        others = cohort.keys - concerned
        cohort.keys = concerned
        self._drop_if_empty(cohort)
        if others:
            self._join(cohort.question, change.new, others)

    def _join(self, question: Question | None, inventory: Inventory, keys: set[str]) -> None:
        cohort = self._cohorts.setdefault((question, inventory.version), _Cohort(question, inventory))
        cohort.keys |= keys
        self._cohort_of.update(dict.fromkeys(keys, cohort))

    def _drop_if_empty(self, cohort: _Cohort) -> None:
        if not cohort.keys:
            self._cohorts.pop((cohort.question, cohort.inventory.version), None)


def _concerns(key: str, question: Question | None, change: Change, alters: bool) -> bool:
    names = {pod.node_name for pod in change.new.owned_pods.get(key, ())}
    if question is not None and question.gpu_class is not None and names and None not in names:
        # Its pods have their GPUs: what others take or free is nothing to it, a change of the nodes themselves is.
        if not change.rebuilt.isdisjoint(names):
            return True
        if question.gpu_class not in change.rebuilt:
            return False
    return alters
