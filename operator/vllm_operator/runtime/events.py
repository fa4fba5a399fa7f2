"""Kubernetes Events about a VLLMDeployment: specific, once per change, never in the way of a reconcile."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from vllm_operator.api.v1alpha1 import API_VERSION, KIND
from vllm_operator.runtime.kube import EVENTS, ApiError, Unreachable

if TYPE_CHECKING:
    from vllm_operator.runtime.kube import Kube

_LOGGER = logging.getLogger(__name__)

LONGEST_NOTE: Final = 1000
"""The API server refuses notes above 1 kB."""
LONGEST_BACKLOG: Final = 1000


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing worth telling."""

    namespace: str
    name: str
    uid: str
    kind: str
    """`Normal` or `Warning`."""
    reason: str
    action: str
    note: str


class EventRecorder:
    """Sends Events one after the other from a bounded backlog; what does not fit is dropped, not waited for."""

    def __init__(self, kube: Kube, *, reporter: str) -> None:
        self._kube = kube
        self._reporter = reporter
        self._backlog: asyncio.Queue[Happening] = asyncio.Queue(LONGEST_BACKLOG)
        self._last: dict[tuple[str, str], Happening] = {}

    def record(self, happening: Happening) -> None:
        """Queue an Event, unless it repeats the last one about the same resource and action."""
        about = (happening.uid, happening.action)
        if self._last.get(about) == happening:
            return
        self._last[about] = happening
        try:
            self._backlog.put_nowait(happening)
        except asyncio.QueueFull:
            _LOGGER.warning("event dropped", extra={"key": f"{happening.namespace}/{happening.name}"})

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a resource that is gone."""
        for about in [about for about in self._last if about[0] == uid]:
            del self._last[about]

    async def run(self) -> None:
        """Send Events until cancelled."""
        while True:
            happening = await self._backlog.get()
            try:
                await self._kube.create(EVENTS, happening.namespace, self._manifest(happening))
            except (ApiError, Unreachable) as error:
                _LOGGER.info("event not sent", extra={"reason": str(error)})

    def _manifest(self, happening: Happening) -> dict[str, object]:
        now = datetime.now(UTC)
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{happening.name}.", "namespace": happening.namespace},
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": happening.kind,
            "reason": happening.reason,
            "action": happening.action,
            "note": happening.note[:LONGEST_NOTE],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": happening.namespace,
                "name": happening.name,
                "uid": happening.uid,
            },
            "reportingController": "vllm-operator.io/vllm-operator",
            "reportingInstance": self._reporter[:128],
        }
