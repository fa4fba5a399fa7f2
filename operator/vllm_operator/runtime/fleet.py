"""A change of the cluster re-judges the deployments whose answer it could change, and only those."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from vllm_operator.planning.fanout import affected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.cluster.state import ClusterState
    from vllm_operator.runtime.reconciler import Judgement

QUIET_SECONDS: Final = 0.2
"""A rollout or a node pool changes many objects at once: wait until it is quiet, …"""
LONGEST_WAIT_SECONDS: Final = 1.0
"""… but not for longer than this."""
KEYS_BETWEEN_BREATHS: Final = 50
"""The webhook shares the event loop: let it in between so many comparisons."""


class Fleet:
    """Waits for changes of the inventory and passes on the keys that they concern."""

    def __init__(
        self, cluster: ClusterState, judgements: Mapping[str, Judgement], *, requeue: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._judgements = judgements
        self._requeue = requeue
        self._changed = asyncio.Event()

    def inventory_changed(self) -> None:
        """Say that something that plans may read has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Pass on changes until cancelled."""
        while True:
            await self._changed.wait()
            await self._until_quiet()
            await self._fan_out()

    async def _until_quiet(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LONGEST_WAIT_SECONDS
        while self._changed.is_set() and loop.time() < deadline:
            self._changed.clear()
            await asyncio.sleep(QUIET_SECONDS)

    async def _fan_out(self) -> None:
        self._changed.clear()
        inventory = self._cluster.snapshot()
        for number, (key, judgement) in enumerate(list(self._judgements.items())):
            if affected(judgement.plan, judgement.inventory, inventory):
                self._requeue(key)
            if number % KEYS_BETWEEN_BREATHS == KEYS_BETWEEN_BREATHS - 1:
                await asyncio.sleep(0)
