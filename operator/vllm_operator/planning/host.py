"""What a replica takes of its node besides GPUs: CPU, memory and a pod slot. Without room for them it stays Pending."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vllm_operator.api.pod_template import ENGINE_CONTAINER
from vllm_operator.cluster import reading
from vllm_operator.cluster.pods import CPU, MEMORY, effective_requests

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMORY_BASE_GIB: Final = 2
MEMORY_PER_GPU_GIB: Final = 2
"""Requested host memory. A server with one worker peaked at 3.0 GB (its API server, engine and worker are a process
each); every further GPU is one more worker. A request, not a limit: page cache of the weights may use what is free."""

CPU_BASE: Final = 1
CPU_PER_GPU: Final = 1
"""Requested cores. Every worker and the engine loop keep a core busy; without a request the kernel would give a
neighbour that has one a hundred times their share."""

_WEIGHS: Final = ("containers", "initContainers", "resources", "overhead")
"""Parts of a pod's spec that decide what the scheduler reserves for it."""


def engine_requests(gpus: int) -> dict[str, str]:
    """Return what the engine's container asks of its node, as quantities."""
    return {CPU: str(CPU_BASE + CPU_PER_GPU * gpus), MEMORY: f"{MEMORY_BASE_GIB + MEMORY_PER_GPU_GIB * gpus}Gi"}


class HostRequest(NamedTuple):
    """What the scheduler reserves for one pod."""

    cpu_millis: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNeed:
    """What a replica of any number of GPUs reserves; `overlay` is what `spec.podTemplate` adds to it, as JSON."""

    overlay: str = "{}"

    @classmethod
    def of_template(cls, pod_template: Mapping[str, Any]) -> HostNeed:
        """Keep what weighs of a user's pod template."""
        spec = reading.mapping_at(pod_template, "spec")
        kept = {key: spec[key] for key in _WEIGHS if key in spec}
        return cls(overlay=json.dumps(kept, sort_keys=True, default=str))

    def request(self, gpus: int) -> HostRequest:
        """Return what a replica of that many GPUs reserves."""
        return _request(self.overlay, gpus)

    def limit(self, resource: str) -> int | None:
        """Return the most that a pod may take of its node; None where a container states no limit of its own."""
        return _limit(self.overlay, resource)


ENGINE_ALONE: Final = HostNeed()


@lru_cache(maxsize=1024)
def _request(overlay: str, gpus: int) -> HostRequest:
    spec = json.loads(overlay)
    others = []
    engine: Mapping[str, Any] = {}
    for container in reading.items_at(spec, "containers"):
        if container.get("name") == ENGINE_CONTAINER:
            engine = container
        else:
            others.append(container)
    own = {
        "limits": reading.mapping_at(engine, "resources", "limits"),
        "requests": {**engine_requests(gpus), **reading.mapping_at(engine, "resources", "requests")},
    }
    requests = effective_requests({**spec, "containers": [{"resources": own}, *others]})
    return HostRequest(requests.get(CPU, 0), requests.get(MEMORY, 0))


@lru_cache(maxsize=1024)
def _limit(overlay: str, resource: str) -> int | None:
    """Limits add up as requests do. We state none for the engine: only the user's template can."""
    spec = json.loads(overlay)
    whole_pod = reading.mapping_at(spec, "resources", "limits")
    containers = [*reading.items_at(spec, "containers"), *reading.items_at(spec, "initContainers")]
    names = {container.get("name") for container in containers}
    stated = all(resource in reading.mapping_at(container, "resources", "limits") for container in containers)
    if resource not in whole_pod and not (stated and ENGINE_CONTAINER in names):
        return None
    limits = {
        **spec,
        "resources": {"limits": whole_pod},
        "containers": [_without_requests(one) for one in reading.items_at(spec, "containers")],
        "initContainers": [_without_requests(one) for one in reading.items_at(spec, "initContainers")],
    }
    return effective_requests(limits).get(resource, 0)


def _without_requests(container: Mapping[str, Any]) -> dict[str, Any]:
    return {**container, "resources": {"limits": reading.mapping_at(container, "resources", "limits")}}


class HostRoom(NamedTuple):
    """What one node has of it; None where it does not say, which refuses nothing."""

    cpu_millis: int | None
    memory_bytes: int | None
    pods: int | None

    def replicas(self, request: HostRequest) -> int | None:
        """Return how many such replicas there is room for; None for any number."""
        rooms = [] if self.pods is None else [self.pods]
        if self.cpu_millis is not None and request.cpu_millis:
            rooms.append(self.cpu_millis // request.cpu_millis)
        if self.memory_bytes is not None and request.memory_bytes:
            rooms.append(self.memory_bytes // request.memory_bytes)
        return min(rooms, default=None)
