"""What the pods of our deployments are going through."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.pod_template import ENGINE_CONTAINER
from vllm_operator.cluster.reading import owner_of
from vllm_operator.render.labels import PLAN_HASH_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LONGEST_WAITING_MESSAGE: Final = 600
_LONGEST_LAST_WORDS: Final = 4096
"""What the kubelet keeps of a termination message."""
_UNSCHEDULABLE: Final = "Unschedulable"
_DEFAULT_GRACE_SECONDS: Final = 30
_DEFAULT_PERIOD_SECONDS: Final = 10
_DEFAULT_THRESHOLD: Final = 3
"""Kubernetes' own defaults (core/v1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodHealth:
    """One pod of ours, as far as its user wants to know."""

    uid: str
    name: str
    phase: str
    node_name: str | None
    ready: bool
    deleting: bool = False
    plan_hash: str = ""
    """Of the plan that the pod was rendered from."""
    container: str = ""
    """The container that waits or has ended, where it is not the engine's: an init container or a sidecar."""
    waiting_reason: str = ""
    waiting_message: str = ""
    ended_reason: str = ""
    ended_message: str = ""
    exit_code: int | None = None
    ran_seconds: int | None = None
    """How long the container had run when it ended."""
    startup_budget_seconds: int | None = None
    """How long its startup probe lets it try; None where there is none."""
    grace_period_seconds: int = _DEFAULT_GRACE_SECONDS
    restarts: int = 0
    unschedulable: str = ""
    """The scheduler's message, while it finds no node."""


class Pods:
    """The pods of our deployments by `namespace/name` of the VLLMDeployment."""

    def __init__(self) -> None:
        self._by_owner: dict[str, dict[str, PodHealth]] = {}
        self._owner_of: dict[str, str] = {}

    def entries(self) -> int:
        """Return how much is kept, for whoever watches that it does not grow."""
        return sum(map(len, self._by_owner.values())) + len(self._owner_of)

    def of(self, owner: str) -> tuple[PodHealth, ...]:
        """Return the pods of one VLLMDeployment, by name."""
        return tuple(sorted(self._by_owner.get(owner, {}).values(), key=lambda pod: pod.name))

    def owner_of(self, uid: str) -> str | None:
        """Return the VLLMDeployment whose pod this is, None when it is nobody's of ours."""
        return self._owner_of.get(uid)

    def upsert(self, obj: Mapping[str, Any]) -> str | None:
        """Take a pod; returns its owner when something of interest changed."""
        metadata = obj["metadata"]
        owner = owner_of(metadata.get("namespace", "default"), metadata.get("labels") or {})
        if owner is None:
            return self.remove(metadata["uid"])
        pod = project_health(obj)
        known = self._by_owner.setdefault(owner, {})
        self._owner_of[pod.uid] = owner
        if known.get(pod.uid) == pod:
            return None
        known[pod.uid] = pod
        return owner

    def remove(self, uid: str) -> str | None:
        """Forget a pod; returns its owner when it was known."""
        owner = self._owner_of.pop(uid, None)
        if owner is None:
            return None
        del self._by_owner[owner][uid]
        if not self._by_owner[owner]:
            del self._by_owner[owner]
        return owner

    def retain(self, uids: set[str]) -> set[str]:
        """Forget all pods but these; returns the owners of those that are gone."""
        return {owner for uid in self._owner_of.keys() - uids if (owner := self.remove(uid)) is not None}


def is_ours(obj: Mapping[str, Any]) -> bool:
    """Whether a pod is of one of our deployments."""
    metadata = obj["metadata"]
    return owner_of(metadata.get("namespace", "default"), metadata.get("labels") or {}) is not None


def project_health(obj: Mapping[str, Any]) -> PodHealth:
    """Read what matters from a pod."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    conditions = {condition.get("type"): condition for condition in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    containers = _containers(status)
    waiter, waiting = _first(containers, lambda item: (item.get("state") or {}).get("waiting"))
    ender, ended = _first(containers, _ended)
    container = ender or waiter
    if status.get("phase") == "Failed" and status.get("reason"):
        # The node's word on the whole pod, such as Evicted, over how that ended the container.
        ended = {**ended, "reason": status["reason"], "message": status.get("message", "")}
    no_node = scheduled.get("status") == "False" and scheduled.get("reason") == _UNSCHEDULABLE
    return PodHealth(
        uid=str(metadata["uid"]),
        name=str(metadata["name"]),
        phase=str(status.get("phase") or "Pending"),
        node_name=spec.get("nodeName"),
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        deleting="deletionTimestamp" in metadata,
        plan_hash=str((metadata.get("annotations") or {}).get(PLAN_HASH_ANNOTATION) or ""),
        container=container if container != ENGINE_CONTAINER else "",
        waiting_reason=str(waiting.get("reason") or ""),
        waiting_message=str(waiting.get("message") or "")[-_LONGEST_WAITING_MESSAGE:],
        ended_reason=str(ended.get("reason") or ""),
        ended_message=str(ended.get("message") or "")[-_LONGEST_LAST_WORDS:],
        exit_code=ended.get("exitCode"),
        ran_seconds=_seconds_between(ended.get("startedAt"), ended.get("finishedAt")),
        startup_budget_seconds=_startup_budget(spec),
        grace_period_seconds=int(spec.get("terminationGracePeriodSeconds") or _DEFAULT_GRACE_SECONDS),
        restarts=sum(int(item.get("restartCount") or 0) for item in containers),
        unschedulable=str(scheduled.get("message") or "") if no_node else "",
    )


def _containers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the containers' states: what has to go well first comes first, the engine before its sidecars."""
    own = sorted(status.get("containerStatuses") or [], key=lambda item: item.get("name") != ENGINE_CONTAINER)
    return [*(status.get("initContainerStatuses") or []), *own]


def _first(
    containers: list[Mapping[str, Any]], state_of: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
) -> tuple[str, Mapping[str, Any]]:
    """Return name and state of the first container that has the state; nothing of both where none has."""
    for container in containers:
        if state := state_of(container):
            return str(container.get("name") or ""), state
    return "", {}


def _ended(container: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how a container ended last, when it should not have: a server never ends by itself, also not well."""
    for state in ("state", "lastState"):
        terminated: Mapping[str, Any] | None = (container.get(state) or {}).get("terminated")
        if terminated and (terminated.get("exitCode") != 0 or container.get("name") == ENGINE_CONTAINER):
            return terminated
    return None


def _startup_budget(spec: Mapping[str, Any]) -> int | None:
    engine: Mapping[str, Any] = next(
        (item for item in spec.get("containers") or [] if item.get("name") == ENGINE_CONTAINER), {}
    )
    probe = engine.get("startupProbe")
    if not probe:
        return None
    period = int(probe.get("periodSeconds") or _DEFAULT_PERIOD_SECONDS)
    threshold = int(probe.get("failureThreshold") or _DEFAULT_THRESHOLD)
    return int(probe.get("initialDelaySeconds") or 0) + period * threshold


def _seconds_between(start: object, end: object) -> int | None:
    try:
        return int((datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))).total_seconds())
    except (ValueError, TypeError):
        return None
