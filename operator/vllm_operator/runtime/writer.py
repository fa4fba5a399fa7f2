"""Brings the objects of one VLLMDeployment into the cluster: only what differs, and never somebody else's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.api.conditions import APPLY_FAILED, CONFLICT
from vllm_operator.runtime.children import child_id, covers
from vllm_operator.runtime.kube import BY_KIND, VLLM_DEPLOYMENTS, ApiError
from vllm_operator.runtime.pinning import stamped
from vllm_operator.runtime.status import Rendering

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.runtime.children import ChildId, Children
    from vllm_operator.runtime.kube import Objects

Manifest = dict[str, Any]

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that say nothing about the object: the same request may succeed later."""
NOT_OF_THE_KIND = ("failed to create typed patch object", "failed to convert new object")
"""What the API server says, with a 500, of an object that it cannot read as its kind: of a field of a newer Kubernetes,
or a quantity that is none, in `spec.podTemplate` (apimachinery: managedfields/internal/structuredmerge.go)."""
NAMESPACE_TERMINATING = "NamespaceTerminating"
"""Cause of a 403: nothing is made any more in a namespace that is being deleted (k8s.io/api/core/v1)."""
ABSENT = 404
CONTENDED = 409
"""Others write to the object so often that the API server gave up; a name that is not ours never comes out as this."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object as it is to be."""

    id: ChildId
    manifest: Manifest


def wanted_of(manifests: Iterable[Manifest]) -> tuple[Wanted, ...]:
    """Return manifests in the form in which they are applied and compared."""
    return tuple(Wanted(child_id(manifest), stamped(manifest)) for manifest in manifests)


class OwnerGone(Exception):
    """The VLLMDeployment has been deleted, or its namespace is being: nothing is to be made for it any more.

    The watch has not told yet.
    """


class Writer:
    """Compares what is wanted with what the watches saw, and writes the difference by server-side apply."""

    def __init__(self, kube: Objects, children: Children) -> None:
        self._kube = kube
        self._children = children

    def differing(self, key: str, uid: str, wanted: Iterable[Wanted]) -> tuple[Wanted, ...]:
        """Return what must be written: what is not in the cluster as it is wanted."""
        live = self._children.of(key)
        return tuple(
            one
            for one in wanted
            if (child := live.get(one.id)) is None or child.owner_uid != uid or not covers(child.body(), one.manifest)
        )

    def settled(self, key: str, wanted: Iterable[Wanted]) -> bool:
        """Whether every object is there; asked once nothing differs any more."""
        live = self._children.of(key)
        return all(one.id in live for one in wanted)

    async def confirm(self, key: str, uid: str, differing: Iterable[Wanted]) -> None:
        """Ask whether the VLLMDeployment is still there, where one of its objects has vanished.

        The garbage collector may have taken it because its owner is gone, and two watches come in no order: what is
        made anew then would be an orphan.

        Raises:
            OwnerGone: it is not, or is being deleted, or is another of the same name.
            ApiError: the API server refused to say.
            Unreachable: it did not answer.
        """
        if not any(self._children.was_deleted(key, one.id) for one in differing):
            return
        namespace, name = key.split("/", 1)
        owner = await self._kube.find(VLLM_DEPLOYMENTS, namespace, name)
        if owner is None or owner["metadata"].get("uid") != uid or "deletionTimestamp" in owner["metadata"]:
            raise OwnerGone(key)

    async def write(self, key: str, uid: str, one: Wanted) -> Rendering | None:
        """Apply one object; returns what stands in the way, None when it is done.

        Raises:
            OwnerGone: the namespace is being deleted.
            ApiError: the API server is not able to answer now.
            Unreachable: it does not answer at all.
        """
        child = self._children.of(key).get(one.id)
        if child is not None and child.owner_uid != uid:
            text = f"the {one.id[0]} {one.id[1]!r} of a deleted VLLMDeployment of the same name is still being removed"
            return Rendering(CONFLICT, text)
        try:
            answer = await self._apply(one, uid, known=child is not None)
        except ApiError as error:
            if NAMESPACE_TERMINATING in error.causes:
                raise OwnerGone(key) from None
            if _may_pass(error):
                raise
            return Rendering(APPLY_FAILED, f"the {one.id[0]} {one.id[1]!r} was not accepted: {error}")
        if answer is None:
            text = (
                f"a {one.id[0]} {one.id[1]!r} that is not this VLLMDeployment's exists already; "
                "delete it or give the VLLMDeployment another name"
            )
            return Rendering(CONFLICT, text)
        # The watch will bring the same again, which then is nothing new.
        self._children.upsert(answer)
        return None

    async def remove_unwanted(self, key: str, uid: str, wanted: Iterable[Wanted]) -> str:
        """Delete the objects of this VLLMDeployment that it no longer wants; returns which of them stay, and why.

        One that may not be deleted, by the roles or by a policy of the cluster, keeps neither the others nor the
        status waiting.

        Raises:
            ApiError: the API server is not able to answer now.
            Unreachable: it does not answer at all.
        """
        kept, left = {one.id for one in wanted}, []
        for child in list(self._children.of(key).values()):
            if child.id not in kept and child.owner_uid == uid:
                namespace, (kind, name) = key.partition("/")[0], child.id
                try:
                    await self._kube.delete(BY_KIND[kind], namespace, name, uid=child.uid)
                except ApiError as error:
                    if _may_pass(error):
                        raise
                    left.append(f"the {kind} {name!r} is no longer wanted and was not deleted: {error}")
        return "; ".join(left)

    async def _apply(self, one: Wanted, uid: str, *, known: bool) -> Manifest | None:
        """Apply; None when the name belongs to an object that is not ours.

        What is not known to be ours is applied without force: an object of somebody else then shows as a conflict.
        """
        if known:
            return await self._kube.apply(one.manifest, force=True)
        try:
            return await self._kube.apply(one.manifest, force=False)
        except ApiError as error:
            if error.status != CONTENDED:
                raise
            refused = error
        metadata = one.manifest["metadata"]
        try:
            found = await self._kube.get(BY_KIND[one.id[0]], metadata["namespace"], metadata["name"])
        except ApiError as error:
            # Gone again: whatever the refusal was about, the next attempt meets something else.
            raise (refused if error.status == ABSENT else error) from None
        # By the uid alone: whatever else of the reference was edited is to be restored.
        if all(reference.get("uid") != uid for reference in found["metadata"].get("ownerReferences") or []):
            return None
        return await self._kube.apply(one.manifest, force=True)


def _may_pass(error: ApiError) -> bool:
    """Whether the same request may succeed later."""
    if error.status in TRANSIENT:
        return not any(words in str(error) for words in NOT_OF_THE_KIND)
    return error.status == CONTENDED
