"""Pods as the scheduler counts them: what each holds on its node until it ends."""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster import reading
from vllm_operator.cluster.records import PodRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

TERMINAL_PHASES: Final = frozenset({"Succeeded", "Failed"})
CPU: Final = "cpu"
MEMORY: Final = "memory"
POD_LEVEL: Final = (CPU, MEMORY)
"""Resources that `spec.resources` of a pod may set for all its containers together (PodLevelResources)."""

Requests = dict[str, int]


def project_pod(obj: Mapping[str, Any]) -> PodRecord | None:
    """Return what a pod holds, or None when it has ended, or asks for nothing and is on no node.

    A pod without requests still takes one of its node's pod slots.
    """
    if reading.mapping_at(obj, "status").get("phase") in TERMINAL_PHASES:
        return None
    metadata = reading.mapping_at(obj, "metadata")
    spec = reading.mapping_at(obj, "spec")
    requests = effective_requests(spec)
    node_name = _interned(spec.get("nodeName"))
    if not requests and node_name is None:
        return None
    name = reading.text(metadata.get("name")) or ""
    namespace = intern(reading.text(metadata.get("namespace")) or "default")
    return PodRecord(
        namespace=namespace,
        name=name,
        uid=reading.text(metadata.get("uid")) or f"{namespace}/{name}",
        node_name=node_name,
        requests=requests,
        owner=reading.owner_of(namespace, reading.mapping_at(metadata, "labels")),
    )


def effective_requests(spec: Mapping[str, Any]) -> Requests:
    """Return what the scheduler reserves for a pod.

    Per resource: the larger of what runs side by side (containers and restartable init containers) and the peak
    while it starts (each init container beside the restartable ones before it), plus the runtime class's overhead.
    Kubernetes: `component-helpers/resource/helpers.go:PodRequests`.
    """
    together = _total(reading.items_at(spec, "containers"))
    starting: Requests = {}
    sidecars: Requests = {}
    for container in reading.items_at(spec, "initContainers"):
        own = _container_requests(container)
        if container.get("restartPolicy") == "Always":
            _add(together, own)
            _add(sidecars, own)
            _raise_to(starting, sidecars)
        else:
            peak = dict(sidecars)
            _add(peak, own)
            _raise_to(starting, peak)
    _raise_to(together, starting)
    whole_pod = _container_requests(spec)
    together.update({resource: whole_pod[resource] for resource in POD_LEVEL if resource in whole_pod})
    _add(together, _read(reading.mapping_at(spec, "overhead")))
    return {resource: number for resource, number in together.items() if number}


def _total(containers: tuple[Mapping[str, Any], ...]) -> Requests:
    total: Requests = {}
    for container in containers:
        _add(total, _container_requests(container))
    return total


def _container_requests(container: Mapping[str, Any]) -> Requests:
    """Return a container's requests; where only a limit is given, the API server takes it as the request."""
    resources = container.get("resources")
    if not resources:
        return {}
    requests = _read(reading.mapping_at(resources, "limits"))
    requests.update(_read(reading.mapping_at(resources, "requests")))
    return requests


def _read(quantities: Mapping[str, Any]) -> Requests:
    read: Requests = {}
    for resource, value in quantities.items():
        number = reading.thousandths(value) if resource == CPU else reading.needed_quantity(value)
        if isinstance(resource, str) and number is not None:
            read[intern(resource)] = number
    return read


def _add(total: Requests, more: Requests) -> None:
    for resource, number in more.items():
        total[resource] = total.get(resource, 0) + number


def _raise_to(total: Requests, floor: Requests) -> None:
    for resource, number in floor.items():
        if number > total.get(resource, 0):
            total[resource] = number


def _interned(value: object) -> str | None:
    name = reading.text(value)
    return intern(name) if name else None
