"""Very many VLLMDeployments at once, and then a change of each: how fast, how many writes, how much CPU.

Beside it a bare client that does nothing but send: the same requests of a user, and the same objects as the operator
applied, as many at a time as the operator has workers. Both begin with the user's first request, and end with the last
write; each on a plane of its own, as the API server grows slower with every Service that it has.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tests.controlplane.audit import WRITES, Request
from tests.perf import objects
from tests.perf.audit import of_operator, reads_in, writes
from tests.perf.client import at_once
from tests.perf.figures import quantile
from tests.perf.owned import applied_by
from tests.perf.stage import NAMESPACE

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from tests.perf.client import Client
    from tests.perf.objects import Manifest
    from tests.perf.stage import Stage

MANAGER = "vllm-operator"
SILENT_SECONDS = 20.0
"""Longer than the back-off of a key that has failed a few times."""
SECONDS_EACH = 0.5
"""The longest that is waited for, per resource."""
SERVICES = "patch services"
CREATED = ("patch deployments", SERVICES, "patch vllmdeployments/status")
CHANGED = ("patch deployments", "patch vllmdeployments/status")
"""What is written for one resource; a change of the workload leaves its Service alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """How the operator got through one burst."""

    count: int
    seconds: float
    """From the first request to the end of the last write."""
    deployments_seconds: float
    """From the first request until the last Deployment was written."""
    requests: tuple[Request, ...]
    """The operator's."""
    waits: tuple[float, ...]
    """Seconds from each request to the Deployment that it asked for."""
    cpu_seconds: float
    lag_p99_seconds: float
    peak_bytes: int

    @property
    def per_second(self) -> float:
        """Resources a second."""
        return self.count / self.seconds

    @property
    def cpu_ms_each(self) -> float:
        """CPU time of the operator for one resource, in milliseconds."""
        return 1000 * self.cpu_seconds / self.count

    @property
    def writes(self) -> Counter[str]:
        """The operator's writes."""
        return writes(self.requests)

    @property
    def reads(self) -> Counter[str]:
        """What the operator read of single resources or of their namespace."""
        return reads_in(self.requests, {NAMESPACE})

    @property
    def failed(self) -> int:
        """Requests that the API server was not able to answer."""
        return sum(request.failed for request in self.requests)

    def wait(self, share: float) -> float:
        """Return a quantile of the time from a request to its Deployment."""
        return quantile(list(self.waits), share)


@dataclass(frozen=True, slots=True)
class Applied:
    """What the operator applied for one resource, in the order in which it did."""

    resource: Manifest
    deployment: Manifest
    service: Manifest
    status: Manifest


async def created(place: Stage, count: int, *, first: int = 0) -> Burst:
    """Create resources, and wait until the operator has written everything for them."""
    numbers = range(first, first + count)
    return await _burst(place, "create", CREATED, [objects.resource(NAMESPACE, number) for number in numbers])


async def changed(place: Stage, count: int) -> Burst:
    """Change resources, and wait until the operator has written everything that follows."""
    patches = [_changed(objects.resource(NAMESPACE, number)) for number in range(count)]
    return await _burst(place, "patch", CHANGED, patches)


async def _burst(place: Stage, verb: str, each: Sequence[str], resources: Sequence[Manifest]) -> Burst:
    audit, metrics, cpu = place.audit, place.operator_metrics(), place.operator.cpu_seconds()
    expected = len(each) * len(resources)
    begun = time.time()

    def written() -> list[Request]:
        audit.read()
        return [request for request in of_operator(audit) if request.begun >= begun and request.wrote]

    await at_once(partial(_ask, place.client, verb, resource) for resource in resources)
    limit = 10 + SECONDS_EACH * len(resources)

    def done() -> bool:
        accepted = written()
        if len(accepted) >= expected:
            return True
        # A write that timed out may have been done all the same: the watch has shown it, and nobody asks again.
        ended = [request for request in of_operator(audit) if request.begun >= begun and _is_of_a_resource(request)]
        silent = bool(ended) and time.time() - max(request.ended for request in ended) > SILENT_SECONDS
        return silent and len(accepted) + sum(request.failed for request in ended) >= expected

    await place.until(done, seconds=limit, what=f"{expected} writes")
    used = place.operator.cpu_seconds() - cpu
    await place.quiet()
    last = max(request.ended for request in written())
    made = {request.name: request.ended for request in written() if request.resource == "deployments"}
    asked = {
        request.name: request.begun
        for request in audit.requests
        if request.begun >= begun and request.resource == "vllmdeployments" and request.verb == verb
    }
    return Burst(
        count=len(resources),
        seconds=last - begun,
        deployments_seconds=max(made.values()) - begun,
        requests=tuple(request for request in of_operator(audit) if request.begun >= begun),
        waits=tuple(ended - asked[name] for name, ended in made.items()),
        cpu_seconds=used,
        lag_p99_seconds=place.operator_metrics().since(metrics).quantile("vllm_operator_loop_lag_seconds", 0.99),
        peak_bytes=place.operator.peak_resident_bytes(),
    )


def _is_of_a_resource(request: Request) -> bool:
    return request.verb in WRITES and request.namespace == NAMESPACE


async def applied(place: Stage) -> list[Applied]:
    """Return what the operator has applied for every resource, from what the API server says are its fields."""
    made: dict[str, dict[str, Manifest]] = {}
    kinds = (
        ("apps/v1", "Deployment", objects.DEPLOYMENTS),
        ("v1", "Service", objects.SERVICES),
        (objects.API_VERSION, objects.KIND, objects.RESOURCES),
    )
    for api_version, kind, path in kinds:
        async for item in place.client.list(path.format(NAMESPACE)):
            own = applied_by({"apiVersion": api_version, "kind": kind, **item}, MANAGER)
            made.setdefault(item["metadata"]["name"], {})[kind] = own
    return [
        Applied(
            resource=objects.resource(NAMESPACE, int(name.removeprefix(objects.NAME_PREFIX))),
            deployment=its["Deployment"],
            service=its["Service"],
            status=its[objects.KIND],
        )
        for name, its in sorted(made.items())
    ]


async def bare_created(client: Client, found: Sequence[Applied]) -> float:
    """Return how long it takes a bare client to create the resources and to apply everything of each."""
    begun = time.perf_counter()
    await at_once(partial(_create_and_apply, client, one) for one in found)
    return time.perf_counter() - begun


async def bare_changed(client: Client, found: Sequence[Applied]) -> float:
    """Return how long it takes a bare client to change the resources and to apply what follows."""
    begun = time.perf_counter()
    await at_once(partial(_change_and_apply, client, one) for one in found)
    return time.perf_counter() - begun


async def _create_and_apply(client: Client, one: Applied) -> None:
    answer = await _ask(client, "create", one.resource)
    for obj, path in ((one.deployment, objects.DEPLOYMENTS), (one.service, objects.SERVICES)):
        await _apply(client, path, _owned_by(obj, answer["metadata"]["uid"]))
    await _apply_status(client, one)


async def _change_and_apply(client: Client, one: Applied) -> None:
    answer = await _ask(client, "patch", _changed(one.resource))
    await _apply(client, objects.DEPLOYMENTS, _owned_by(one.deployment, answer["metadata"]["uid"]))
    await _apply_status(client, one)


async def _ask(client: Client, verb: str, resource: Manifest) -> Manifest:
    collection = objects.RESOURCES.format(NAMESPACE)
    if verb == "create":
        return await client.create(collection, resource)
    return await client.merge(f"{collection}/{resource['metadata']['name']}", {"spec": resource["spec"]})


async def _apply(client: Client, path: str, obj: Manifest) -> None:
    await client.apply(f"{path.format(NAMESPACE)}/{obj['metadata']['name']}", obj)


async def _apply_status(client: Client, one: Applied) -> None:
    path = f"{objects.RESOURCES.format(NAMESPACE)}/{one.status['metadata']['name']}/status"
    await client.apply(path, one.status)


def _owned_by(obj: Manifest, uid: str) -> Manifest:
    references = [{**reference, "uid": uid} for reference in obj["metadata"]["ownerReferences"]]
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": references}}


def _changed(resource: Manifest) -> Manifest:
    workload = resource["spec"]["workload"]
    shorter = {**workload, "contextLength": workload["contextLength"] // 2}
    return {**resource, "spec": {**resource["spec"], "workload": shorter}}
