"""Kubernetes Events: on change only, each said once, and never in the way of a reconcile."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import conditions as reasons
from vllm_operator.api.conditions import find_condition
from vllm_operator.api.v1alpha1 import API_VERSION, KIND
from vllm_operator.render.labels import MANAGER
from vllm_operator.runtime.kube import EVENTS, ApiError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vllm_operator.api.status import Condition
    from vllm_operator.runtime.kube import Objects

_LOGGER = logging.getLogger(__name__)

MOST_WAITING: Final = 1000
MOST_SAID: Final = 64
"""Notes that are remembered of one resource; the API server itself refuses an Event that it has already."""
LONGEST_NOTE: Final = 1000
"""The API server refuses notes of 1 KiB and more."""

_BAD_WHEN_FALSE: Final = (reasons.SPEC_VALID, reasons.MODEL_RESOLVED, reasons.FEASIBLE, reasons.RENDERED)
_TOLD_WHEN_TRUE: Final = frozenset({reasons.APPLIED_IN_PART, reasons.PART_NOT_WORKING})
_UNREMARKABLE: Final = frozenset({reasons.WITHHELD})


def tellings(before: Sequence[Condition], after: Sequence[Condition]) -> Iterator[tuple[str, str, str]]:
    """Yield (type, reason, note) for what has changed so that a user should hear of it."""
    for condition in after:
        old = find_condition(before, condition.type)
        if old is not None and (old.status, old.reason) == (condition.status, condition.reason):
            continue
        if condition.type in _BAD_WHEN_FALSE and condition.status == "False":
            if condition.reason not in _UNREMARKABLE:
                yield "Warning", condition.reason, condition.message
        elif condition.reason in _TOLD_WHEN_TRUE or (condition.type == reasons.DEGRADED and condition.status == "True"):
            yield "Warning", condition.reason, condition.message
        elif condition.type == reasons.READY and condition.status == "True":
            yield "Normal", condition.reason, condition.message


class Recorder:
    """Writes Events from a bounded queue; one that cannot be written is dropped, as status says the same."""

    def __init__(self, kube: Objects, *, instance: str, now: Callable[[], str]) -> None:
        self._kube = kube
        self._instance = instance
        self._now = now
        self._waiting: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(maxsize=MOST_WAITING)
        self._said: dict[str, set[str]] = {}

    def entries(self) -> int:
        """Return how much is kept, for whoever watches that it does not grow."""
        return self._waiting.qsize() + sum(map(len, self._said.values()))

    def tell(self, key: str, uid: str, kind: str, reason: str, note: str) -> None:
        """Queue an Event, unless the same was said of this resource before."""
        digest = hashlib.sha256(f"{uid}\n{reason}\n{note}".encode()).hexdigest()[:16]
        said = self._said.setdefault(key, set())
        if digest in said:
            return
        if len(said) >= MOST_SAID:
            said.clear()
        said.add(digest)
        namespace, name = key.split("/", 1)
        event = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": namespace, "name": f"{name[:200]}.{digest}"},
            "eventTime": self._now(),
            "reportingController": MANAGER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": kind,
            "reason": reason,
            "note": note[:LONGEST_NOTE],
            "regarding": {"apiVersion": API_VERSION, "kind": KIND, "namespace": namespace, "name": name, "uid": uid},
        }
        try:
            self._waiting.put_nowait((namespace, event))
        except asyncio.QueueFull:
            said.discard(digest)

    def forget(self, key: str) -> None:
        """Forget what was said of a resource that is gone."""
        self._said.pop(key, None)

    async def run(self) -> None:
        """Write Events until cancelled."""
        while True:
            namespace, event = await self._waiting.get()
            try:
                await self._kube.create(EVENTS, namespace, event)
            except ApiError as error:
                # 409: the same Event from before a restart; 403, 404: the namespace is being deleted.
                if error.status not in (403, 404, 409):
                    _LOGGER.warning("an Event was not written", extra={"reason": str(error)})
            except Unreachable as error:
                _LOGGER.warning("an Event was not written", extra={"reason": str(error)})
