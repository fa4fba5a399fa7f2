"""Whether the nodes under running pods still are what the pods' plan rests on.

Pods keep the plan that they were started with (docs/decisions/0012): a node may become another one under them, or lose
GPUs, and what they serve goes on. Nobody would look for the reason of the next failed start there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from vllm_operator.api import conditions as reasons
from vllm_operator.planning.wording import have_gib, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm_operator.api.status import PlanStatus
    from vllm_operator.cluster.records import GpuOffer
    from vllm_operator.planning.plan import Plan


class Change(StrEnum):
    """What has become of a node; the first tells most."""

    NODE_NOT_READY = reasons.NODE_NOT_READY
    GPUS_UNHEALTHY = reasons.GPUS_UNHEALTHY
    STALE = reasons.STALE


class Ground(NamedTuple):
    """The GPUs that a plan was made for."""

    resource_name: str
    product: str | None
    memory_bytes: int | None

    @classmethod
    def of_plan(cls, plan: Plan | None, pinned: PlanStatus | None) -> Ground | None:
        """Return the ground of the plan that pods follow: the one that they are pinned to, else the newest."""
        if pinned is not None:
            return cls(pinned.resource_name or "", pinned.gpu_product, pinned.gpu_memory_bytes)
        if plan is None or plan.placement is None:
            return None
        gpu_class = plan.placement.gpu_class
        return cls(gpu_class.resource_name, gpu_class.product, gpu_class.memory_bytes)


@dataclass(frozen=True, slots=True)
class Footing:
    """What is wrong with the nodes under the pods, and what to do."""

    change: Change
    message: str


def footing_of(ground: Ground, nodes: Iterable[tuple[str, tuple[GpuOffer, ...]]]) -> Footing | None:
    """Return what has become of the nodes (name and offers) on which pods with such a plan run; None while nothing has.

    A node that is not known offers nothing: whether it is there is not judged by what it does not offer.
    """
    found = [footing for name, offers in sorted(nodes) for footing in _changes(ground, name, offers)]
    if not found:
        return None
    worst = min((footing.change for footing in found), key=list(Change).index)
    told = [footing.message for footing in found if footing.change is worst]
    others = f" (and {plural(len(told) - 1, 'more node')})" if len(told) > 1 else ""
    return Footing(worst, f"{told[0]}{others}")


def _changes(ground: Ground, name: str, offers: tuple[GpuOffer, ...]) -> Iterator[Footing]:
    for offer in offers:
        gpu_class = offer.gpu_class
        if gpu_class.resource_name != ground.resource_name:
            continue
        if not offer.node.ready:
            text = f"node {name}, on which pods of this model run, is not ready; see kubectl describe node {name}"
            yield Footing(Change.NODE_NOT_READY, text)
        if offer.allocatable < offer.capacity:
            yield Footing(
                Change.GPUS_UNHEALTHY,
                f"node {name} offers {offer.allocatable} of its {offer.capacity} {gpu_class.resource_name}, the others"
                f" are unhealthy; look for their errors in its kernel log and drain it: a pod that restarts there may"
                " find no GPU",
            )
        if (gpu_class.product, gpu_class.memory_bytes) != (ground.product, ground.memory_bytes):
            now, then = _named(gpu_class.product, gpu_class.memory_bytes), _named(ground.product, ground.memory_bytes)
            text = (
                f"node {name} has {now} now, and its pods keep a plan for {then}; delete them to have it planned anew"
            )
            yield Footing(Change.STALE, text)


def _named(product: str | None, memory_bytes: int | None) -> str:
    memory = f" with {have_gib(memory_bytes)} GiB" if memory_bytes is not None else ""
    return f"{product or 'GPUs of unknown product'}{memory}"
