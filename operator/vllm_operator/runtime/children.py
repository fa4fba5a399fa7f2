"""The objects that we made, as the API server has them, and whether they still are what we want."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from vllm_operator.api.quantity import QuantityError, parse_quantity
from vllm_operator.api.v1alpha1 import KIND
from vllm_operator.runtime.complaints import complaint_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Manifest = dict[str, Any]
ChildId = tuple[str, str]
"""Kind and name within one namespace."""
Place = tuple[str, ChildId]
"""Namespace, and the object in it."""

_NOT_OURS: Final = ("managedFields", "resourceVersion", "selfLink", "generation", "creationTimestamp", "uid")
_MERGED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "env": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "ports": ("containerPort", "name"),
    "resourceClaims": ("name",),
    "topologySpreadConstraints": ("topologyKey",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""Lists of pods, Services and metadata that server-side apply merges item by item (their `listType` is map), and what
tells the items apart. A NetworkPolicy's `ports` have neither key: they are one value."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a Deployment or a LeaderWorkerSet has come, from its status; a group of pods is one replica."""

    generation: int = 0
    observed_generation: int = 0
    replicas: int = 0
    updated: int = 0
    available: int = 0
    ready: int = 0
    wanted: int = 1
    progress_reason: str = ""
    progress_message: str = ""
    failure_message: str = ""

    @property
    def current(self) -> bool:
        """Whether the status speaks of the newest spec."""
        return self.observed_generation >= self.generation

    @property
    def complete(self) -> bool:
        """Whether all wanted pods are of the newest spec and available, and no other is left."""
        return self.current and self.updated == self.available == self.replicas == self.wanted


class _RecentBodies:
    """Decoded bodies: one reconcile asks for each a few times, sixteen go on at once, and each has two or three."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._bodies: OrderedDict[bytes, Manifest] = OrderedDict()

    def of(self, packed: bytes) -> Manifest:
        body = self._bodies.get(packed)
        if body is None:
            body = from_json(zlib.decompress(packed), cache_strings="keys")
            self.keep(packed, body)
        return body

    def keep(self, packed: bytes, body: Manifest) -> None:
        self._bodies[packed] = body
        self._bodies.move_to_end(packed)
        if len(self._bodies) > self._size:
            self._bodies.popitem(last=False)


_recent = _RecentBodies(size=64)


@dataclass(frozen=True, slots=True)
class Child:
    """One object of ours. Its body is kept compressed: it is read only when it changed, and there are many."""

    id: ChildId
    uid: str
    owner_uid: str
    version: int | None
    fingerprint: bytes
    packed: bytes
    rollout: Rollout | None = None
    complaint: str = ""
    """What its own controller says is wrong with it."""

    @property
    def sight(self) -> bytes:
        """What tells whether the same is wanted of it: its body, and whether pods of it are refused."""
        return self.fingerprint + (b"refused" if self.rollout is not None and self.rollout.failure_message else b"")

    def body(self) -> Manifest:
        """Return the object without its status; it is shared and must not be changed."""
        return _recent.of(self.packed)


class Sight(NamedTuple):
    """An object of ours as it was seen."""

    place: Place
    owner: str | None
    version: int | None
    child: Child | None
    """None where it has no owner, or nothing newer than what was known then."""


class Children:
    """Our objects by their VLLMDeployment (`namespace/name`), as watches, lists and answers to our writes show them.

    The three come in any order. resourceVersions of one kind are ordered, also beyond the life of an object, so that
    what is older than what is known already changes nothing: neither a watch that lags behind a write nor a list that
    a write has overtaken.
    """

    def __init__(self) -> None:
        self._by_owner: dict[str, dict[ChildId, Child]] = {}
        self._owner_of: dict[Place, str] = {}
        """Who owned an object when it was seen last."""
        self._gone: dict[Place, int] = {}
        """At which version an object was deleted, until the next list of its kind."""

    def entries(self) -> int:
        """Return how much is kept, for whoever watches that it does not grow."""
        return sum(map(len, self._by_owner.values())) + len(self._owner_of) + len(self._gone)

    def was_deleted(self, owner: str, child: ChildId) -> bool:
        """Whether an object that was there has gone, as far as is remembered: until the list after the next."""
        return (owner.partition("/")[0], child) in self._gone

    def workload(self, owner: str, kind: str) -> Child | None:
        """Return the object that runs the pods: of that kind, else the one that it is to take the place of."""
        known, name = self.of(owner), owner.partition("/")[2]
        found = [known[place] for other in _ROLLOUTS if (place := (other, name)) in known]
        return min(found, key=lambda child: child.id[0] != kind, default=None)

    def of(self, owner: str) -> Mapping[ChildId, Child]:
        """Return the objects of one VLLMDeployment."""
        return self._by_owner.get(owner, {})

    def upsert(self, obj: Manifest) -> str | None:
        """Take an object; returns its owner when something of interest changed.

        An object whose owner reference was edited is gone for the owner that it had, who is to restore it.
        """
        return self._take(self.sight(obj))

    def sight(self, obj: Manifest) -> Sight:
        """Return what is kept of an object until it is taken: of one that is known already, only that it is there."""
        place, owner, version = _place(obj), owner_of(obj), version_of(obj)
        known = owner is None or self._is_old(place, version)
        return Sight(place, owner, version, None if known else _child(obj))

    def _take(self, seen: Sight) -> str | None:
        place, owner, version, child = seen
        if self._is_old(place, version):
            return None
        former = self._owner_of.get(place)
        if former is not None and former != owner:
            self._forget(former, place, version)
        if owner is None or child is None:
            return former
        known = self._by_owner.setdefault(owner, {})
        before = known.get(child.id)
        known[child.id] = child
        self._owner_of[place] = owner
        self._gone.pop(place, None)
        if former is not None and former != owner:
            return former
        return None if before is not None and _of_interest(before) == _of_interest(child) else owner

    def remove(self, obj: Manifest) -> str | None:
        """Forget an object; returns its owner when it was known and is not already another of the same name."""
        place, version = _place(obj), version_of(obj)
        owner = self._owner_of.get(place, owner_of(obj))
        if owner is None or self._is_old(place, version):
            return None
        return owner if self._forget(owner, place, version) else None

    def replace(self, kind: str, namespace: str | None, objects: Iterable[Sight], version: int | None) -> set[str]:
        """Take an authoritative list of one kind in one namespace (None: all); returns the owners of what changed."""
        listed, changed = set(), set()
        for seen in objects:
            listed.add(seen.place)
            if (owner := self._take(seen)) is not None:
                changed.add(owner)
        missing = {
            place: owner
            for place, owner in self._owner_of.items()
            if place[1][0] == kind and namespace in (None, place[0]) and place not in listed
        }
        for place, owner in missing.items():
            if not self._is_old(place, version):
                self._forget(owner, place, version)
                changed.add(owner)
        if version is not None:
            self._gone = {place: gone for place, gone in self._gone.items() if place[1][0] != kind or gone >= version}
        return changed

    def _is_old(self, place: Place, version: int | None) -> bool:
        """Whether something as new is known already: the object itself, or that it is gone."""
        if version is None:
            return False
        owner = self._owner_of.get(place)
        known = self._by_owner[owner][place[1]].version if owner is not None else self._gone.get(place)
        return known is not None and known >= version

    def _forget(self, owner: str, place: Place, version: int | None) -> bool:
        self._owner_of.pop(place, None)
        if version is not None:
            self._gone[place] = version
        if self._by_owner.get(owner, {}).pop(place[1], None) is None:
            return False
        if not self._by_owner[owner]:
            del self._by_owner[owner]
        return True


def _of_interest(child: Child) -> tuple[object, ...]:
    return child.uid, child.owner_uid, child.fingerprint, child.rollout, child.complaint


def child_id(obj: Mapping[str, Any]) -> ChildId:
    """Return what tells an object apart from its owner's others."""
    return (str(obj["kind"]), str(obj["metadata"]["name"]))


def _place(obj: Mapping[str, Any]) -> Place:
    return (str(obj["metadata"]["namespace"]), child_id(obj))


def version_of(obj: Mapping[str, Any]) -> int | None:
    """Return the resourceVersion as a number (Kubernetes promises an order since 1.35); None where it is none."""
    text = str((obj.get("metadata") or {}).get("resourceVersion") or "")
    return int(text) if text.isdecimal() else None


def owner_of(obj: Mapping[str, Any]) -> str | None:
    """Return `namespace/name` of the VLLMDeployment that controls an object."""
    reference = controller_of(obj)
    return f"{obj['metadata']['namespace']}/{reference['name']}" if reference is not None else None


def controller_of(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the owner reference of the VLLMDeployment that controls an object."""
    for reference in obj["metadata"].get("ownerReferences") or []:
        if reference.get("kind") == KIND and reference.get("controller"):
            found: Mapping[str, Any] = reference
            return found
    return None


def _child(obj: Manifest) -> Child:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _NOT_OURS}
    slim = {key: value for key, value in obj.items() if key != "status"} | {"metadata": metadata}
    text = to_json(slim)
    packed = zlib.compress(text, 1)
    # What was just written is compared at once with what was wanted.
    _recent.keep(packed, slim)
    return Child(
        id=child_id(obj),
        uid=str(obj["metadata"].get("uid") or ""),
        owner_uid=str((controller_of(obj) or {}).get("uid") or ""),
        version=version_of(obj),
        fingerprint=blake2b(text, digest_size=16).digest(),
        packed=packed,
        rollout=_ROLLOUTS[obj["kind"]](obj) if obj["kind"] in _ROLLOUTS else None,
        complaint=complaint_of(obj),
    )


def rollout_of(deployment: Mapping[str, Any]) -> Rollout:
    """Read a Deployment's status."""
    status = deployment.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    progressing = conditions.get("Progressing", {})
    failure = conditions.get("ReplicaFailure", {})
    wanted = (deployment.get("spec") or {}).get("replicas")
    return Rollout(
        generation=int(deployment["metadata"].get("generation") or 0),
        observed_generation=int(status.get("observedGeneration") or 0),
        replicas=int(status.get("replicas") or 0),
        updated=int(status.get("updatedReplicas") or 0),
        available=int(status.get("availableReplicas") or 0),
        ready=int(status.get("readyReplicas") or 0),
        wanted=1 if wanted is None else int(wanted),
        progress_reason=str(progressing.get("reason") or ""),
        progress_message=str(progressing.get("message") or ""),
        failure_message=str(failure.get("message") or "") if failure.get("status") == "True" else "",
    )


def rollout_of_groups(workload: Mapping[str, Any]) -> Rollout:
    """Read a LeaderWorkerSet's status: a group is ready when all of its pods are.

    Releases that do not report the generation that they speak of are believed once they report anything.
    """
    metadata, status = workload["metadata"], workload.get("status") or {}
    generation = int(metadata.get("generation") or 0)
    wanted = (workload.get("spec") or {}).get("replicas")
    ready = int(status.get("readyReplicas") or 0)
    return Rollout(
        generation=generation,
        observed_generation=int(status.get("observedGeneration") or (generation if status.get("conditions") else 0)),
        replicas=int(status.get("replicas") or 0),
        updated=int(status.get("updatedReplicas") or 0),
        available=ready,
        ready=ready,
        wanted=1 if wanted is None else int(wanted),
    )


_ROLLOUTS: Final = {"Deployment": rollout_of, "LeaderWorkerSet": rollout_of_groups}
"""How the status of each kind that runs pods is read."""


def covers(observed: Any, wanted: Any, *, field: str = "") -> bool:
    """Whether everything that is wanted is there; what others added or the API server defaulted does not matter.

    `field`: name of the field that holds the two. Most lists of Kubernetes are one value: an item more is an edit.
    """
    if observed == wanted:
        return True
    if isinstance(wanted, dict):
        if not isinstance(observed, dict):
            return not wanted and observed is None
        for key, value in wanted.items():
            seen = observed.get(key)
            # Nearly all are equal, and a call is what costs here.
            if seen != value and not covers(seen, value, field=key):
                return False
        return True
    if isinstance(wanted, list):
        return _covers_list(observed, wanted, _key_of(wanted, field))
    return _same_quantity(observed, wanted) or (observed is None and wanted == "")


def _covers_list(observed: Any, wanted: list[Any], key: str | None) -> bool:
    if not isinstance(observed, list):
        return not wanted and observed is None
    if key is None:
        return len(observed) == len(wanted) and all(map(covers, observed, wanted))
    items = {item.get(key): item for item in observed if isinstance(item, dict)}
    return all(covers(items.get(item.get(key)), item) for item in wanted)


def _key_of(items: list[Any], field: str) -> str | None:
    """Return what tells the items of a list apart to which others may add; None for a list that is one value."""
    if not all(isinstance(item, dict) for item in items):
        return None
    for key in _MERGED_BY.get(field, ()):
        values = [item.get(key) for item in items]
        if all(isinstance(value, (str, int)) for value in values) and len(set(values)) == len(values):
            return key
    return None


def _same_quantity(observed: Any, wanted: Any) -> bool:
    """The API server writes quantities in its own form: 9216Mi comes back as 9Gi."""
    if not isinstance(observed, str) or not isinstance(wanted, str):
        return False
    try:
        return parse_quantity(observed) == parse_quantity(wanted)
    except QuantityError:
        return False
