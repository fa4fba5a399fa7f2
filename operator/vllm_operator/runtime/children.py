"""The objects that we made, as the API server has them, and whether they still are what we want."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.quantity import QuantityError, parse_quantity
from vllm_operator.api.v1alpha1 import KIND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Manifest = dict[str, Any]
ChildId = tuple[str, str]
"""Kind and name within one namespace."""

HASH_ANNOTATION: Final = "vllm-operator.io/applied-hash"
_ITEM_KEYS: Final = ("name", "mountPath", "key", "containerPort", "port", "uid", "type")


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a Deployment has come, from its status."""

    generation: int
    observed_generation: int
    replicas: int
    updated: int
    available: int
    wanted: int
    progress_reason: str
    progress_message: str
    failure_message: str

    @property
    def current(self) -> bool:
        """Whether the status speaks of the newest spec."""
        return self.observed_generation >= self.generation

    @property
    def complete(self) -> bool:
        """Whether all wanted pods are of the newest spec and available."""
        return self.current and self.updated >= self.wanted and self.available >= self.wanted == self.replicas


class Children:
    """Our objects by their VLLMDeployment (`namespace/name`); a sink of the watchers of all kinds that we make."""

    def __init__(self) -> None:
        self._by_owner: dict[str, dict[ChildId, Manifest]] = {}

    def of(self, owner: str) -> Mapping[ChildId, Manifest]:
        """Return the objects of one VLLMDeployment."""
        return self._by_owner.get(owner, {})

    def owners(self) -> Iterator[str]:
        """Yield the VLLMDeployments that have objects."""
        return iter(tuple(self._by_owner))

    def upsert(self, obj: Manifest) -> str | None:
        """Take an object; returns its owner when something of interest changed."""
        owner = owner_of(obj)
        if owner is None:
            return None
        slim = _slim(obj)
        known = self._by_owner.setdefault(owner, {})
        child = child_id(obj)
        if known.get(child) == slim:
            return None
        known[child] = slim
        return owner

    def remove(self, obj: Manifest) -> str | None:
        """Forget an object; returns its owner when it was known."""
        owner = owner_of(obj)
        if owner is None or self._by_owner.get(owner, {}).pop(child_id(obj), None) is None:
            return None
        if not self._by_owner[owner]:
            del self._by_owner[owner]
        return owner

    def replace(self, kind: str, objects: list[Manifest]) -> set[str]:
        """Take an authoritative list of one kind; returns the owners for which something changed."""
        changed = {owner for obj in objects if (owner := self.upsert(obj)) is not None}
        listed = {(owner_of(obj), child_id(obj)) for obj in objects}
        for owner, known in list(self._by_owner.items()):
            gone = [child for child in known if child[0] == kind and (owner, child) not in listed]
            for child in gone:
                del known[child]
                changed.add(owner)
            if not known:
                del self._by_owner[owner]
        return changed


def child_id(obj: Manifest) -> ChildId:
    """Return what tells an object apart from its owner's others."""
    return (str(obj["kind"]), str(obj["metadata"]["name"]))


def owner_of(obj: Mapping[str, Any]) -> str | None:
    """Return `namespace/name` of the VLLMDeployment that controls an object."""
    metadata = obj["metadata"]
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("kind") == KIND and reference.get("controller"):
            return f"{metadata['namespace']}/{reference['name']}"
    return None


def _slim(obj: Manifest) -> Manifest:
    """Drop what changes without meaning anything to us."""
    metadata = {
        key: value
        for key, value in obj["metadata"].items()
        if key not in ("managedFields", "resourceVersion", "selfLink")
    }
    slim = {**obj, "metadata": metadata}
    if obj["kind"] == "Deployment":
        slim["status"] = {key: value for key, value in (obj.get("status") or {}).items() if key != "conditions"} | {
            "conditions": [_condition(condition) for condition in (obj.get("status") or {}).get("conditions") or []]
        }
    else:
        slim.pop("status", None)
    return slim


def _condition(condition: Mapping[str, Any]) -> Manifest:
    return {key: condition.get(key, "") for key in ("type", "status", "reason", "message")}


def rollout_of(deployment: Mapping[str, Any]) -> Rollout:
    """Read a Deployment's status."""
    status = deployment.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    progressing = conditions.get("Progressing", {})
    failure = conditions.get("ReplicaFailure", {})
    wanted = deployment.get("spec", {}).get("replicas")
    return Rollout(
        generation=int(deployment["metadata"].get("generation") or 0),
        observed_generation=int(status.get("observedGeneration") or 0),
        replicas=int(status.get("replicas") or 0),
        updated=int(status.get("updatedReplicas") or 0),
        available=int(status.get("availableReplicas") or 0),
        wanted=1 if wanted is None else int(wanted),
        progress_reason=str(progressing.get("reason") or ""),
        progress_message=str(progressing.get("message") or ""),
        failure_message=str(failure.get("message") or "") if failure.get("status") == "True" else "",
    )


def covers(observed: Any, wanted: Any) -> bool:
    """Whether everything that is wanted is there; what others added or the API server defaulted does not matter."""
    if isinstance(wanted, dict):
        if not isinstance(observed, dict):
            return not wanted and observed is None
        return all(covers(observed.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return _covers_list(observed, wanted)
    return observed == wanted or _same_quantity(observed, wanted)


def _covers_list(observed: Any, wanted: list[Any]) -> bool:
    if not isinstance(observed, list):
        return not wanted and observed is None
    key = next((key for key in _ITEM_KEYS if wanted and isinstance(wanted[0], dict) and key in wanted[0]), None)
    if key is None:
        return len(observed) == len(wanted) and all(map(covers, observed, wanted))
    items = {item.get(key): item for item in observed if isinstance(item, dict)}
    return all(covers(items.get(item.get(key)), item) for item in wanted)


def _same_quantity(observed: Any, wanted: Any) -> bool:
    """The API server writes quantities in its own form: 9216Mi comes back as 9Gi."""
    if not isinstance(observed, str) or not isinstance(wanted, str):
        return False
    try:
        return parse_quantity(observed) == parse_quantity(wanted)
    except QuantityError:
        return False
