"""The ResourceQuotas of the namespaces with VLLMDeployments, and which of these they keep from being made whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vllm_operator.cluster.inventory import PODS
from vllm_operator.cluster.pods import CPU, MEMORY
from vllm_operator.cluster.quotas import LIMITS, project_quota, shortage_of, unstated_limits
from vllm_operator.planning.capacity import GpuFilter
from vllm_operator.runtime.kube import RESOURCE_QUOTAS
from vllm_operator.runtime.optional_watch import OptionalWatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vllm_operator.cluster.quotas import QuotaRecord, Shortage
    from vllm_operator.cluster.state import ClusterState
    from vllm_operator.planning.plan import Plan
    from vllm_operator.runtime.kube import Kube

Manifest = dict[str, Any]


class Quotas:
    """ResourceQuotas by namespace."""

    def __init__(self, cluster: ClusterState) -> None:
        self._cluster = cluster
        self._known: dict[str, dict[str, QuotaRecord]] = {}
        self._short: set[str] = set()

    def shortage(self, key: str, plan: Plan) -> Shortage | None:
        """Return which quota does not let all replicas of a plan be made; None where none does."""
        records = self._known.get(key.partition("/")[0])
        return self._shortage(key, plan, records.values()) if records else None

    def warning(self, key: str, plan: Plan) -> str:
        """Return which quotas count limits that a plan's pods do not state; empty where none does."""
        records = self._known.get(key.partition("/")[0])
        each = _of_one_replica(plan) if records else None
        return unstated_limits(records.values(), each) if records and each is not None else ""

    def warnings(self, key: str, plan: Plan) -> tuple[str, ...]:
        """Return all that is to be said of quotas before a plan's pods are asked for."""
        shortage = self.shortage(key, plan)
        said = ("" if shortage is None else shortage.message, self.warning(key, plan))
        return tuple(text for text in said if text)

    def allows_surge(self, key: str, plan: Plan) -> bool:
        """Whether the quotas let one replica more be made than a plan has, for the time of a rollout."""
        records = self._known.get(key.partition("/")[0])
        return not records or self.shortage(key, replace(plan, replicas=plan.replicas + 1)) is None

    def waits(self, key: str, shortage: Shortage | None) -> None:
        """Note whether a VLLMDeployment waits for a quota to have room."""
        if shortage is None:
            self._short.discard(key)
        else:
            self._short.add(key)

    def short_in(self, namespace: str) -> tuple[str, ...]:
        """Return the VLLMDeployments of a namespace that were short when they were looked at last."""
        return tuple(key for key in self._short if key.startswith(f"{namespace}/"))

    def entries(self) -> int:
        """Return how many things are kept."""
        return len(self._short) + sum(map(len, self._known.values()))

    def forget(self, key: str) -> None:
        """Forget a VLLMDeployment that is gone."""
        self._short.discard(key)

    def upsert(self, obj: Manifest) -> bool:
        """Take a quota; says whether what it limits has changed."""
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        record = project_quota(obj)
        if record is None:
            return self.remove(obj)
        known = self._known.setdefault(namespace, {})
        before = known.get(name)
        known[name] = record
        return before != record

    def remove(self, obj: Manifest) -> bool:
        """Forget a quota; says whether it was known."""
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        return self._known.get(namespace, {}).pop(name, None) is not None

    def replace(self, namespace: str | None, objects: list[Manifest]) -> set[str]:
        """Take an authoritative list of one namespace (None: all); returns the namespaces where something changed."""
        listed = {(obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in objects}
        changed = {obj["metadata"]["namespace"] for obj in objects if self.upsert(obj)}
        for place, known in list(self._known.items()):
            if namespace is not None and place != namespace:
                continue
            for name in [name for name in known if (place, name) not in listed]:
                del known[name]
                changed.add(place)
            if not known:
                del self._known[place]
        return changed

    def _shortage(self, key: str, plan: Plan, records: Iterable[QuotaRecord]) -> Shortage | None:
        each = _of_one_replica(plan)
        if each is None:
            return None
        # What others' limits add up to is not kept: of limits, only what our own alone exceed is a shortage.
        held = self._cluster.requested_by_others(key)
        return shortage_of(records, held, each=each, replicas=plan.replicas)


def _of_one_replica(plan: Plan) -> dict[str, int] | None:
    """Return what quotas count of one replica, limits where they are stated; None for a plan without a place."""
    gpus, placement = plan.inputs_read.get("gpus"), plan.placement
    if placement is None or not isinstance(gpus, GpuFilter):
        return None
    host, pods = gpus.host.request(placement.gpus_per_pod), placement.nodes_per_replica
    limits = {name: gpus.host.limit(resource) for name, resource in LIMITS.items()}
    return {
        placement.gpu_class.requested_as: placement.gpus_per_replica,
        CPU: host.cpu_millis * pods,
        MEMORY: host.memory_bytes * pods,
        PODS: pods,
        **{name: limit * pods for name, limit in limits.items() if limit is not None},
    }


@dataclass
class QuotaFeed:
    """Quotas of one namespace (None: all) into the store.

    A quota's own count moves with every pod: that concerns those alone who wait for it.
    """

    quotas: Quotas
    namespace: str | None
    changed: Callable[[str], None]
    """Called with a namespace whose limits are others now."""
    queue: Callable[[str], None]

    def replace(self, objects: list[Manifest], version: int | None) -> None:
        """Take an authoritative list."""
        for namespace in self.quotas.replace(self.namespace, objects):
            self.changed(namespace)

    def upsert(self, obj: Manifest) -> None:
        """Take one that was added or changed."""
        namespace = obj["metadata"]["namespace"]
        if self.quotas.upsert(obj):
            self.changed(namespace)
            return
        for key in self.quotas.short_in(namespace):
            self.queue(key)

    def remove(self, obj: Manifest) -> None:
        """Forget one that was deleted."""
        if self.quotas.remove(obj):
            self.changed(obj["metadata"]["namespace"])


def quota_watchers(
    kube: Kube,
    quotas: Quotas,
    namespaces: tuple[str | None, ...],
    *,
    keys: Callable[[], Iterable[str]],
    queue: Callable[[str], None],
    resync_seconds: float,
    jitter: Callable[[], float],
) -> list[OptionalWatcher]:
    """Return a watcher for each namespace (None: all); without the right to list quotas the operator does without."""

    def changed(namespace: str) -> None:
        for key in keys():
            if key.startswith(f"{namespace}/"):
                queue(key)

    return [
        OptionalWatcher(
            kube,
            RESOURCE_QUOTAS,
            QuotaFeed(quotas, namespace, changed, queue),
            namespace=namespace,
            resync_seconds=resync_seconds,
            jitter=jitter,
            versions=(RESOURCE_QUOTAS,),
        )
        for namespace in namespaces
    ]
