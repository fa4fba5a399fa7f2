"""The VLLMDeployments as their watch tells them, parsed once per change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.api.status import VLLMDeploymentStatus
from vllm_operator.api.v1alpha1 import SpecError, VLLMDeployment, parse_deployment

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Known:
    """One VLLMDeployment. Exactly one of `deployment` and `error` is set."""

    namespace: str
    name: str
    uid: str
    generation: int
    deployment: VLLMDeployment | None
    error: SpecError | None
    status: dict[str, Any]
    resource_version: int = 0

    @property
    def previous(self) -> VLLMDeploymentStatus:
        """The status that the API server has, as far as it can be read."""
        return self.deployment.status if self.deployment else VLLMDeploymentStatus()


class Resources:
    """All VLLMDeployments by `namespace/name`."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Known | None:
        """Return one, or None when it is gone."""
        return self._known.get(key)

    def keys(self) -> Iterator[str]:
        """Yield all keys."""
        return iter(tuple(self._known))

    def upsert(self, obj: dict[str, Any]) -> bool:
        """Take an object; returns whether its spec, identity or status differ from what was known."""
        metadata = obj["metadata"]
        if metadata.get("deletionTimestamp"):
            return self.remove(obj)
        key = key_of(obj)
        known = self._known.get(key)
        generation = int(metadata.get("generation") or 0)
        status = obj.get("status") or {}
        version = int(metadata.get("resourceVersion") or 0)
        if known and known.uid == metadata["uid"] and version < known.resource_version:
            # A list that was under way while the watch already told of something newer.
            return False
        if known and (known.uid, known.generation, known.status) == (metadata["uid"], generation, status):
            return False
        deployment, error = None, None
        try:
            deployment = parse_deployment(obj)
        except SpecError as found:
            error = found
        self._known[key] = Known(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            generation=generation,
            deployment=deployment,
            error=error,
            status=status,
            resource_version=version,
        )
        return True

    def remove(self, obj: dict[str, Any]) -> bool:
        """Forget an object; returns whether it was known."""
        return self._known.pop(key_of(obj), None) is not None

    def replace(self, objects: list[dict[str, Any]]) -> set[str]:
        """Take an authoritative list; returns the keys that changed or are gone."""
        listed = {key_of(obj) for obj in objects}
        gone = self._known.keys() - listed
        for key in gone:
            del self._known[key]
        return gone | {key_of(obj) for obj in objects if self.upsert(obj)}


def key_of(obj: dict[str, Any]) -> str:
    """Return `namespace/name`."""
    metadata = obj["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}"
