"""An API server in memory, as far as the runtime's `Kube` protocol goes: versions, generations, owners, refusals."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

from vllm_operator.runtime.kube import BY_KIND, ApiError, as_it_is

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from vllm_operator.runtime.kube import Keep, Resource

Object = dict[str, Any]


class FakeKube:
    """Objects by (plural, namespace, name). `writes` has every write; `refuse` may raise on one before it happens.

    `absent` has the plurals of kinds that have no API.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.statuses: dict[tuple[str, str], Object] = {}
        self.writes: list[tuple[str, str, str]] = []
        self.reads: list[tuple[str, str, str]] = []
        self.refuse: Callable[[str, str, str], None] = lambda verb, kind, name: None
        self.absent: set[str] = set()
        self._version = 100

    def put(self, resource: Resource, obj: Object) -> Object:
        """Have an object there that somebody else made."""
        metadata = obj["metadata"]
        stored = copy.deepcopy(obj)
        stored["metadata"] |= {"resourceVersion": self._next(), "uid": metadata.get("uid", f"uid-{self._version}")}
        self.objects[(resource.plural, metadata["namespace"], metadata["name"])] = stored
        return stored

    async def apply(self, manifest: Object, *, force: bool) -> Object:
        metadata = manifest["metadata"]
        self._write("apply", manifest["kind"], metadata["name"])
        key = (BY_KIND[manifest["kind"]].plural, metadata["namespace"], metadata["name"])
        known = self.objects.get(key)
        if known is not None and not force and known["metadata"].get("ownerReferences") != metadata["ownerReferences"]:
            raise ApiError(409, "Conflict", 'Apply failed with 1 conflict: conflict with "kubectl": .spec.selector')
        fresh = copy.deepcopy(manifest)
        generation = known["metadata"].get("generation", 0) if known else 0
        same = known is not None and known.get("spec") == manifest.get("spec")
        fresh["metadata"] |= {
            "uid": known["metadata"]["uid"] if known else f"uid-{self._version}",
            "resourceVersion": self._next(),
            "generation": generation if same else generation + 1,
        }
        if known is not None and "status" in known:
            fresh["status"] = known["status"]
        self.objects[key] = fresh
        return copy.deepcopy(fresh)

    async def apply_status(self, manifest: Object) -> Object:
        metadata = manifest["metadata"]
        self._write("status", manifest["kind"], metadata["name"])
        self.statuses[(metadata["namespace"], metadata["name"])] = copy.deepcopy(manifest["status"])
        return {"metadata": {**metadata, "resourceVersion": self._next()}}

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        self.reads.append(("get", resource.kind, name))
        try:
            return copy.deepcopy(self.objects[(resource.plural, namespace or "", name)])
        except KeyError:
            raise ApiError(404, "NotFound", f"{resource.plural} {name!r} not found") from None

    async def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        self.reads.append(("find", resource.kind, name))
        return copy.deepcopy(self.objects.get((resource.plural, namespace, name)))

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> None:
        self._write("delete", resource.kind, name)
        known = self.objects.get((resource.plural, namespace, name))
        if known is not None and known["metadata"]["uid"] == uid:
            del self.objects[(resource.plural, namespace, name)]

    async def create(self, resource: Resource, namespace: str, manifest: Object) -> None:
        self._write("create", resource.kind, manifest["metadata"].get("name", ""))
        key = (resource.plural, namespace, manifest["metadata"]["name"])
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", "it exists")
        self.put(resource, manifest)

    async def update(self, resource: Resource, namespace: str | None, manifest: Object) -> Object:
        self._write("update", resource.kind, manifest["metadata"]["name"])
        known = self.objects[(resource.plural, namespace or "", manifest["metadata"]["name"])]
        if known["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified")
        return copy.deepcopy(self.put(resource, manifest))

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: str = "", keep: Keep = as_it_is
    ) -> tuple[list[Any], str]:
        if resource.plural in self.absent:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        found = [
            keep({**copy.deepcopy(obj), "apiVersion": resource.api_version, "kind": resource.kind})
            for (plural, where, _), obj in self.objects.items()
            if plural == resource.plural and namespace in (None, where)
        ]
        return found, str(self._version)

    async def watch(
        self, resource: Resource, namespace: str | None, *, version: str, seconds: int, labels: str = ""
    ) -> AsyncIterator[tuple[str, Object]]:
        await asyncio.sleep(seconds)
        return
        yield "", {}

    def _write(self, verb: str, kind: str, name: str) -> None:
        self.refuse(verb, kind, name)
        self.writes.append((verb, kind, name))

    def _next(self) -> str:
        self._version += 1
        return str(self._version)
