"""What is wrong with a deployment's pods, from their states and the engine's last words: a reason and the next step."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from vllm_operator.api import conditions as reasons
from vllm_operator.runtime.engine_words import last_line, understand

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.runtime.pods import PodHealth

_IMAGE_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONFIG_REASONS: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"}
)
_KILLED_CODES: Final = frozenset({137, 143})
"""128 + SIGKILL and 128 + SIGTERM: somebody else ended the process."""
_INSUFFICIENT: Final = re.compile(r"(\d+) Insufficient ([\w.-]+/[\w.-]+)")
_LONGEST_QUOTE: Final = 600

_TELLING: Final = (
    reasons.UNSCHEDULABLE,
    reasons.EVICTED,
    reasons.CRASH_LOOP,
    reasons.CONTAINER_CONFIG_ERROR,
    reasons.IMAGE_PULL_FAILED,
    reasons.STARTUP_TIMEOUT,
    reasons.OUT_OF_MEMORY,
    reasons.WORKER_DIED,
)
"""Reasons in the order of how much they tell; those of the engine's own words tell more than all of them."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong, and what to do next."""

    reason: str
    fact: str
    advice: str

    @property
    def message(self) -> str:
        """Fact, numbers, next step."""
        return f"{self.fact}; {self.advice}"


def classify(pods: Iterable[PodHealth]) -> Failure | None:
    """Return what is wrong, for the pod that tells most; None while nothing is."""
    found = [
        (failure, pod)
        for pod in pods
        if not pod.ready and not pod.deleting and (failure := failure_of(pod)) is not None
    ]
    if not found:
        return None
    failure, _ = max(found, key=lambda pair: (_weight(pair[0].reason), pair[1].restarts, pair[1].name))
    alike = sum(1 for other, _ in found if other.reason == failure.reason)
    return failure if alike == 1 else replace(failure, fact=f"{alike} pods, of which {failure.fact}")


def _weight(reason: str) -> int:
    return _TELLING.index(reason) if reason in _TELLING else len(_TELLING)


def failure_of(pod: PodHealth) -> Failure | None:
    """Return what is wrong with one pod; None while nothing is."""
    named = f"container {pod.container!r} of pod {pod.name}" if pod.container else f"pod {pod.name}"
    if pod.waiting_reason in _IMAGE_REASONS:
        fact = f"{named}: the image cannot be pulled ({pod.waiting_reason}): {pod.waiting_message}"
        return Failure(
            reasons.IMAGE_PULL_FAILED,
            fact,
            "check spec.engine.image, the registry, and imagePullSecrets in spec.podTemplate",
        )
    if pod.waiting_reason in _CONFIG_REASONS:
        fact = f"{named}: the container cannot be made ({pod.waiting_reason}): {pod.waiting_message}"
        return Failure(
            reasons.CONTAINER_CONFIG_ERROR,
            fact,
            "create the Secret, ConfigMap or claim that it names, or correct the reference in the spec",
        )
    if pod.ended_reason or pod.exit_code is not None:
        return _failure_of_end(pod, named)
    if pod.waiting_reason == "CrashLoopBackOff":
        return Failure(
            reasons.CRASH_LOOP,
            f"{named} has crashed {pod.restarts} times and left no message",
            _read_log(pod),
        )
    if pod.unschedulable:
        return Failure(
            reasons.UNSCHEDULABLE, f"{named} has no node: {_counts(pod.unschedulable)}", _room(pod.unschedulable)
        )
    return None


def _counts(message: str) -> str:
    """Return the scheduler's counts without what it says of preemption."""
    return message.partition(" preemption:")[0].rstrip(". ")[:_LONGEST_QUOTE]


def _room(message: str) -> str:
    """Return how a pod could get a node."""
    scarce = _INSUFFICIENT.search(message)
    if scarce is None:
        return "compare spec.gpu.nodeSelector and spec.gpu.tolerations with the nodes' labels and taints"
    return f"free {scarce[2]} on one of these {scarce[1]} nodes, lower spec.replicas, or add nodes"


def _failure_of_end(pod: PodHealth, named: str) -> Failure:
    if pod.ended_reason == "OOMKilled":
        fact = f"{named} was killed for taking more main memory than it may (OOMKilled, {pod.restarts} restarts)"
        return Failure(reasons.OUT_OF_MEMORY, fact, "raise or remove the container's memory limit in spec.podTemplate")
    if pod.ended_reason == "Evicted":
        fact = f"{named} was evicted by its node: {pod.ended_message[:_LONGEST_QUOTE].strip()}"
        return Failure(
            reasons.EVICTED,
            fact,
            "give the node room for what the message names, or request that much in spec.podTemplate",
        )
    understood = understand(pod.ended_message) if not pod.container else None
    if understood is not None:
        return Failure(understood.reason, f"{named}: {understood.fact}", understood.advice)
    if pod.exit_code == 0:
        return Failure(
            reasons.WORKER_DIED,
            f"{named} ended with exit code 0 and no message, as vLLM does when one of its workers dies",
            _read_log(pod),
        )
    if _ran_out_of_time(pod):
        return Failure(
            reasons.STARTUP_TIMEOUT,
            f"{named} did not answer within the {pod.startup_budget_seconds} s that its startup probe allows",
            "keep the weights on a faster source (spec.cache, pvc://), or raise startupProbe.failureThreshold of the"
            " container `engine` in spec.podTemplate",
        )
    how = f"{pod.ended_reason or 'Error'}, exit code {pod.exit_code}, {pod.restarts} restarts"
    said = last_line(pod.ended_message)
    return Failure(
        reasons.CRASH_LOOP,
        f"{named} ended ({how}): {said}" if said else f"{named} ended ({how}) and left no message",
        _read_log(pod),
    )


def _read_log(pod: PodHealth) -> str:
    which = f" -c {pod.container}" if pod.container else ""
    return f"read its log: kubectl logs --previous {pod.name}{which}"


def _ran_out_of_time(pod: PodHealth) -> bool:
    """Whether the kubelet ended the container as its startup probe's budget was spent.

    The pod's status does not say so; it follows from a process that was killed from outside just then. One that was
    killed much later had started, and hung.
    """
    if pod.container or pod.exit_code not in _KILLED_CODES:
        return False
    if pod.ran_seconds is None or pod.startup_budget_seconds is None:
        return False
    latest = pod.startup_budget_seconds + pod.grace_period_seconds + pod.startup_budget_seconds // 10
    return pod.startup_budget_seconds <= pod.ran_seconds <= latest
