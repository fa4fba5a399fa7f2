"""What the servers of our pods report of themselves: read once each time an engine has started, beside the reconciles.

Nothing is kept across a restart of the operator: a pod that is Ready is read again, and says the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.pod_template import ENGINE_CONTAINER, ENGINE_PORT_NAME
from vllm_operator.cluster.reading import owner_of
from vllm_operator.planning.observing import Reading
from vllm_operator.render.labels import COMPONENT_LABEL, INSTANCE_LABEL, PLAN_HASH_ANNOTATION, selector_labels
from vllm_operator.runtime.observe_scrape import ScrapeError, pod_address
from vllm_operator.runtime.queue import KeyQueue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from vllm_operator.models.engine_report import EngineReport

    Read = Callable[[str, int], Awaitable[tuple[EngineReport, ...]]]
    """Reads the server at an address and port, or raises ScrapeError."""

_LOGGER = logging.getLogger(__name__)

QUIET_LOOKS: Final = 8
"""Looks at a pod that cannot be read before anybody hears of it; they take a minute.
A server may be Ready before its metrics are there, and a mesh or a network policy may be late by seconds."""
AT_ONCE: Final = 32
"""Pods that are read at the same time: a thousand that do not answer delay another by half a minute at most."""
_SERVES: Final = selector_labels("")[COMPONENT_LABEL]
_CONTROLLERS: Final = frozenset({"ReplicaSet", "StatefulSet"})
"""What stands between our Deployment (or LeaderWorkerSet) and a pod that serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One start of the engine in one pod of ours."""

    owner: str
    """`namespace/name` of the VLLMDeployment."""
    uid: str
    name: str
    address: str
    port: int
    started: tuple[str, int]
    """Container and how often it was restarted: another start may leave other room for the KV cache."""
    plan_hash: str


def target_of(obj: Mapping[str, Any]) -> Target | None:
    """Return what there is to read of a pod; None while it is not Ready, or not one of ours that serves."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    owner = owner_of(metadata.get("namespace", "default"), metadata.get("labels") or {})
    if owner is None or "deletionTimestamp" in metadata or not _serves(metadata) or not _ready(status):
        return None
    address, port = pod_address(str(status.get("podIP") or "")), _port(spec)
    engine: Mapping[str, Any] = next(
        (item for item in status.get("containerStatuses") or [] if item.get("name") == ENGINE_CONTAINER), {}
    )
    if address is None or port is None:
        return None
    return Target(
        owner=owner,
        uid=str(metadata["uid"]),
        name=str(metadata["name"]),
        address=address,
        port=port,
        started=(str(engine.get("containerID") or ""), int(engine.get("restartCount") or 0)),
        plan_hash=str((metadata.get("annotations") or {}).get(PLAN_HASH_ANNOTATION) or ""),
    )


def _serves(metadata: Mapping[str, Any]) -> bool:
    """Whether the pod serves, and what controls it is named after our object: labels alone anybody may set."""
    labels = metadata["labels"]
    controllers = [item for item in metadata.get("ownerReferences") or [] if item.get("controller")]
    return labels.get(COMPONENT_LABEL) == _SERVES and any(
        item.get("kind") in _CONTROLLERS and str(item.get("name") or "").startswith(labels[INSTANCE_LABEL])
        for item in controllers
    )


def _ready(status: Mapping[str, Any]) -> bool:
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or [])


def _port(spec: Mapping[str, Any]) -> int | None:
    for container in spec.get("containers") or []:
        for port in container.get("ports") or [] if container.get("name") == ENGINE_CONTAINER else []:
            if port.get("name") == ENGINE_PORT_NAME:
                return int(port["containerPort"])
    return None


def _worth(reading: Reading) -> int:
    """Order readings of one pod: a report says most, that it could not be had the least."""
    return 2 if not reading.problem else 0 if reading.missing else 1


class Observer:
    """Reads each Ready pod once for each start of its engine, and says whose picture has changed."""

    def __init__(self, changed: Callable[[str], None], *, jitter: Callable[[], float] = lambda: 1.0) -> None:
        self._changed = changed
        self._queue: KeyQueue[str] = KeyQueue(jitter=jitter)
        self._targets: dict[str, Target] = {}
        self._by_owner: dict[str, set[str]] = {}
        self._readings: dict[str, Reading] = {}
        self._looks: dict[str, int] = {}
        """How often a pod was looked at, once it was."""
        self.outcomes: Counter[str] = Counter()
        """How often a look ended in what way: `Read`, or the fault."""

    @property
    def unread(self) -> int:
        """Ready pods of which nothing is known yet."""
        return len(self._targets) - sum(not reading.missing for reading in self._readings.values())

    def of(self, owner: str) -> tuple[Reading, ...]:
        """Return what the Ready pods of a VLLMDeployment report, by name; nothing until each was asked at least once.

        So that a status is written when all is known and not once for each pod.
        """
        uids = self._by_owner.get(owner, set())
        if not uids <= self._looks.keys():
            return ()
        return tuple(sorted((self._readings[uid] for uid in uids & self._readings.keys()), key=lambda one: one.pod))

    def upsert(self, obj: Mapping[str, Any]) -> None:
        """Take a pod."""
        target = target_of(obj)
        uid = str(obj["metadata"]["uid"])
        if target is None:
            self.remove(uid)
        elif self._targets.get(uid) != target:
            self.remove(uid)
            self._targets[uid] = target
            self._by_owner.setdefault(target.owner, set()).add(uid)
            self._queue.add(uid)

    def remove(self, uid: str) -> None:
        """Forget a pod, or one that is not Ready any more."""
        target = self._targets.pop(uid, None)
        if target is None:
            return
        self._queue.forget(uid)
        self._readings.pop(uid, None)
        self._looks.pop(uid, None)
        self._by_owner[target.owner].discard(uid)
        if not self._by_owner[target.owner]:
            del self._by_owner[target.owner]

    def replace(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Take an authoritative list of pods."""
        listed = set()
        for obj in objects:
            listed.add(str(obj["metadata"]["uid"]))
            self.upsert(obj)
        for uid in self._targets.keys() - listed:
            self.remove(uid)

    async def run(self, working: asyncio.Event, read: Read) -> None:
        """Read pods whenever `working` is set, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(self._worker(read, working), name=f"observer {number}")

    async def _worker(self, read: Read, working: asyncio.Event) -> None:
        while True:
            uid = await self._queue.get()
            try:
                await working.wait()
                if (target := self._targets.get(uid)) is not None:
                    await self._look(read, target)
            except Exception as error:  # a fault of ours with one pod's answer must not stop the operator
                delay = self._queue.retry(uid)
                _LOGGER.exception("a pod was not read", extra={"pod": uid, "reason": repr(error), "seconds": delay})
            finally:
                self._queue.done(uid)

    async def _look(self, read: Read, target: Target) -> None:
        try:
            reports = await read(target.address, target.port)
        except ScrapeError as error:
            self.outcomes[error.fault] += 1
            reading = self._without_report(target, error)
            if self._is_current(target):
                delay = self._queue.retry(target.uid)
                _LOGGER.log(
                    logging.DEBUG if target.uid in self._looks else logging.INFO,
                    "a pod's metrics were not read",
                    extra={"key": target.owner, "pod": target.name, "reason": str(error), "seconds": round(delay, 1)},
                )
        else:
            self.outcomes["Read"] += 1
            reading = Reading(pod=target.name, plan_hash=target.plan_hash, reports=reports)
            self._queue.succeeded(target.uid)
        if self._is_current(target):
            self._take(target, reading)

    def _without_report(self, target: Target, error: ScrapeError) -> Reading | None:
        """Return what there is to say of a pod without a report: of nonsense at once, of silence after a while."""
        if not error.answered and self._looks.get(target.uid, 0) + 1 < QUIET_LOOKS:
            return None
        return Reading(
            pod=target.name,
            plan_hash=target.plan_hash,
            problem=f"{error.fault}: {error}",
            missing=not error.answered,
        )

    def _is_current(self, target: Target) -> bool:
        """Whether the pod is still there, and its engine still the one that was asked."""
        return self._targets.get(target.uid) is target

    def _take(self, target: Target, reading: Reading | None) -> None:
        completes = target.uid not in self._looks
        self._looks[target.uid] = self._looks.get(target.uid, 0) + 1
        known = self._readings.get(target.uid)
        # One that answers nonsense may answer another each time: the first is said, until there is sense.
        news = reading is not None and (known is None or _worth(reading) > _worth(known))
        if reading is not None and news:
            self._readings[target.uid] = reading
        pods = self._by_owner[target.owner]
        if pods <= self._looks.keys() and (news or (completes and pods & self._readings.keys())):
            self._changed(target.owner)
