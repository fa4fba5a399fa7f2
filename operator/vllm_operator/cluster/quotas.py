"""ResourceQuotas: what a namespace may ask for, whatever the nodes have.

The API server refuses a pod that would exceed one, and a refused pod is tried again ever less often. What is known
before a pod is asked for is said before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster import reading
from vllm_operator.cluster.inventory import PODS
from vllm_operator.cluster.pods import CPU, MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GIB: Final = 1024**3
LIMITS: Final = {"limits.cpu": CPU, "limits.memory": MEMORY}
"""What a quota may say of pods' limits, and the resource that it is of."""
_REQUESTS: Final = "requests."
_ALIASES: Final = {CPU: CPU, MEMORY: MEMORY, PODS: PODS, "count/pods": PODS} | {name: name for name in LIMITS}
"""Other names of what a quota limits (k8s.io/kubernetes pkg/quota/v1/evaluator/core/pods.go)."""
_ALWAYS_TRUE_OF_OURS: Final = frozenset({"NotTerminating", "NotBestEffort"})
"""Scopes of all our pods: they have no deadline, and they state what they need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRecord:
    """One ResourceQuota.

    `hard` is in the units of `PodRecord.requests`, with `pods` for their number and `LIMITS` for what they may take.
    """

    namespace: str
    name: str
    hard: Mapping[str, int] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """A quota that does not let all replicas be made."""

    record: QuotaRecord
    resource: str
    held_by_others: int
    each: int
    """What one replica asks for."""
    replicas: int
    allowed: int
    """How many replicas the quota lets be made."""

    @property
    def message(self) -> str:
        """Fact, numbers, next step."""
        limit = _amount(self.resource, self.record.hard[self.resource])
        named = self.resource == PODS or self.resource in LIMITS
        resource = self.resource if named else f"{_REQUESTS}{self.resource}"
        held = f", of which others hold {_amount(self.resource, self.held_by_others)}" if self.held_by_others else ""
        return (
            f"the ResourceQuota {self.record.name!r} of namespace {self.record.namespace} allows {limit} {resource}"
            f"{held}: {self.allowed} of {self.replicas} replicas of {_amount(self.resource, self.each)} each may be"
            " made; raise the quota, free some of it, or lower spec.replicas"
        )


def project_quota(obj: Mapping[str, Any]) -> QuotaRecord | None:
    """Return what a quota limits of pods' requests, or None where it limits nothing of ours.

    Quotas for some priorities only are left to the API server: it tells of its refusal.
    """
    spec = reading.mapping_at(obj, "spec")
    if set(spec.get("scopes") or ()) - _ALWAYS_TRUE_OF_OURS or spec.get("scopeSelector"):
        return None
    hard: dict[str, int] = {}
    for name, value in reading.mapping_at(spec, "hard").items():
        resource = name.removeprefix(_REQUESTS) if name.startswith(_REQUESTS) else _ALIASES.get(name)
        number = reading.thousandths(value) if _is_cpu(resource) else reading.whole_quantity(value)
        if resource is not None and number is not None:
            hard[resource] = min(number, hard.get(resource, number))
    metadata = reading.mapping_at(obj, "metadata")
    if not hard:
        return None
    return QuotaRecord(namespace=str(metadata["namespace"]), name=str(metadata["name"]), hard=hard)


def shortage_of(
    quotas: Iterable[QuotaRecord], held_by_others: Mapping[str, int], *, each: Mapping[str, int], replicas: int
) -> Shortage | None:
    """Return the quota that allows the fewest of the replicas; None where all of them may be made."""
    found: Shortage | None = None
    for record in quotas:
        for resource, hard in record.hard.items():
            wanted, held = each.get(resource, 0), held_by_others.get(resource, 0)
            if not wanted:
                continue
            allowed = max(0, hard - held) // wanted
            if allowed < (replicas if found is None else found.allowed):
                found = Shortage(
                    record=record,
                    resource=resource,
                    held_by_others=held,
                    each=wanted,
                    replicas=replicas,
                    allowed=allowed,
                )
    return found


def unstated_limits(quotas: Iterable[QuotaRecord], each: Mapping[str, int]) -> str:
    """Return which quotas limit what the pods state no limit of (`each` has none); empty where none does.

    The API server refuses such a pod, unless a LimitRange of the namespace gives it one: that is not read here.
    """
    return "; ".join(
        f"the ResourceQuota {record.name!r} of namespace {record.namespace} counts {resource}, and a container of the"
        " pods states no such limit: they are refused unless a LimitRange gives it one; set"
        f" resources.limits.{LIMITS[resource]} of every container, `engine` too, in spec.podTemplate"
        for record in quotas
        for resource in record.hard
        if resource in LIMITS and resource not in each
    )


def _is_cpu(resource: str | None) -> bool:
    return resource is not None and LIMITS.get(resource, resource) == CPU


def _amount(resource: str, number: int) -> str:
    if _is_cpu(resource):
        return f"{number / 1000:g}"
    return f"{number / GIB:g}Gi" if LIMITS.get(resource, resource) == MEMORY else str(number)
