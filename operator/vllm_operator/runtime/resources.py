"""The VLLMDeployments as the API server has them."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from vllm_operator.runtime.children import version_of
from vllm_operator.runtime.standings import standing_of
from vllm_operator.runtime.status import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_operator.runtime.standings import Standing


def _compressed(text: str) -> bytes:
    """Return a text as it is kept: equal texts in equal bytes."""
    return zlib.compress(text.encode(), 1)


NO_STATUS = _compressed(canonical({}))
_OF_METADATA: Final = ("name", "namespace", "uid", "generation", "deletionTimestamp")
"""What a plan reads; labels and annotations are nobody's input, and versions come and go with the status."""


@dataclass(frozen=True, slots=True)
class StoredResource:
    """One VLLMDeployment; body and status are kept compressed, as there may be thousands."""

    uid: str
    generation: int
    version: int | None
    deleting: bool
    status: bytes
    """As `canonical` writes it."""
    standing: Standing
    """What of it is counted in metrics."""
    packed: bytes

    def body(self) -> dict[str, Any]:
        """Return the object without its status."""
        body: dict[str, Any] = from_json(zlib.decompress(self.packed), cache_strings="keys")
        return body


Listed = tuple[str, StoredResource]


class Resources:
    """VLLMDeployments by `namespace/name`. Labels and annotations are nobody's input: their change changes nothing.

    The status of an object is what we wrote last as long as the watch lags behind that write.
    """

    def __init__(self) -> None:
        self._known: dict[str, StoredResource] = {}
        self._written: dict[str, tuple[str, int, bytes]] = {}
        self._gone: dict[str, tuple[str, int | None]] = {}
        """By uid: the key, and at which version it was deleted, until a list that is newer."""

    def __len__(self) -> int:
        return len(self._known)

    def entries(self) -> int:
        """Return how much is kept, for whoever watches that it does not grow."""
        return len(self._known) + len(self._written) + len(self._gone)

    def __contains__(self, key: object) -> bool:
        return key in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._known))

    def standings(self) -> list[Standing]:
        """Return how each of them stands, by the status that the API server has."""
        return [known.standing for known in self._known.values()]

    def get(self, key: str) -> StoredResource | None:
        """Return one of them."""
        return self._known.get(key)

    def status_of(self, key: str) -> str:
        """Return the newest status that is known of, in its canonical form."""
        return zlib.decompress(self._status_of(key)).decode()

    def _status_of(self, key: str) -> bytes:
        if key in self._written:
            return self._written[key][2]
        known = self._known.get(key)
        return known.status if known is not None else NO_STATUS

    def wrote_status(self, key: str, answer: Mapping[str, Any], status: Mapping[str, Any], text: str) -> None:
        """Note a status that was written, `text` in canonical form; `answer` has the object's metadata since.

        Where nothing else has changed meanwhile, that is all of the object, and the watch's echo of it is no news.
        """
        known, version = self._known.get(key), version_of(answer)
        if known is None or version is None or not (known.version is None or known.version < version):
            return
        written = _compressed(text)
        if _same_spec(answer["metadata"], known):
            self._known[key] = replace(known, version=version, status=written, standing=standing_of(status))
            self._written.pop(key, None)
        else:
            self._written[key] = (known.uid, version, written)

    def has(self, obj: Mapping[str, Any]) -> bool:
        """Whether an object is known as it is, in this very version."""
        known, version = self._known.get(key_of(obj)), version_of(obj)
        return known is not None and version is not None and (known.uid, known.version) == (_uid_of(obj), version)

    def upsert(self, obj: Mapping[str, Any]) -> str | None:
        """Take an object; returns its key when it has to be looked at."""
        return self._take(*self.listed(obj))

    def listed(self, obj: Mapping[str, Any]) -> Listed:
        """Return what is kept of an object until it is taken: its key, and the rest compressed.

        What is known of it already is not compressed again: the same version is the same object, and the same
        generation has the same spec.
        """
        key = key_of(obj)
        return key, _stored(obj, self._known.get(key), self._status_of(key))

    def _take(self, key: str, fresh: StoredResource) -> str | None:
        known = self._known.get(key)
        if fresh.uid in self._gone or (known is not None and _older(fresh.version, known.version)):
            # A periodic list and the watch run side by side; the list may be the older of the two.
            return None
        before = self._status_of(key)
        self._known[key] = fresh
        written = self._written.get(key)
        if written is not None and (written[0] != fresh.uid or not _older(fresh.version, written[1])):
            del self._written[key]
        same = known is not None and (known.uid, known.generation, known.deleting) == (
            fresh.uid,
            fresh.generation,
            fresh.deleting,
        )
        return None if same and self._status_of(key) == before else key

    def remove(self, obj: Mapping[str, Any]) -> str | None:
        """Forget an object; returns its key when it was known and is not already another of the same name."""
        key = key_of(obj)
        known = self._known.get(key)
        if known is None or known.uid != (obj.get("metadata") or {}).get("uid"):
            return None
        self._forget(key, version_of(obj))
        return key

    def replace(self, namespace: str | None, objects: Iterable[Listed], version: int | None) -> set[str]:
        """Take an authoritative list of one namespace (None: all); returns the keys of what changed or is gone."""
        changed, present = set(), set()
        for key, stored in objects:
            present.add(key)
            if self._take(key, stored) is not None:
                changed.add(key)
        for key, known in list(self._known.items()):
            within = namespace is None or key.startswith(f"{namespace}/")
            # What the watch saw after the list was taken is no deletion.
            if within and key not in present and not _older(version, known.version):
                self._forget(key, version)
                changed.add(key)
        self._gone = {
            uid: (key, gone_at)
            for uid, (key, gone_at) in self._gone.items()
            if not (namespace is None or key.startswith(f"{namespace}/")) or _older(version, gone_at)
        }
        return changed

    def _forget(self, key: str, version: int | None) -> None:
        self._gone[self._known.pop(key).uid] = (key, version)
        self._written.pop(key, None)


def key_of(obj: Mapping[str, Any]) -> str:
    """Return `namespace/name`."""
    metadata = obj["metadata"]
    return f"{metadata.get('namespace', 'default')}/{metadata['name']}"


def _stored(obj: Mapping[str, Any], known: StoredResource | None, status_known: bytes) -> StoredResource:
    metadata, version = obj["metadata"], version_of(obj)
    packed = None
    if known is not None and known.uid == _uid_of(obj):
        if version is not None and known.version == version:
            return known
        if _same_spec(metadata, known):
            packed = known.packed
    status = obj.get("status") or {}
    return StoredResource(
        uid=_uid_of(obj),
        generation=_generation_of(metadata),
        version=version,
        deleting="deletionTimestamp" in metadata,
        status=_compressed_unless(status_known, canonical(status)),
        standing=standing_of(status),
        packed=packed if packed is not None else _compressed(json.dumps(_body(obj))),
    )


def _same_spec(metadata: Mapping[str, Any], known: StoredResource) -> bool:
    """Whether metadata is of an object that differs from the known one in nothing but its status.

    An object without a generation says nothing about its spec.
    """
    generation = _generation_of(metadata)
    told = (str(metadata.get("uid") or ""), generation, "deletionTimestamp" in metadata)
    return generation > 0 and told == (known.uid, known.generation, known.deleting)


def _uid_of(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"].get("uid") or "")


def _generation_of(metadata: Mapping[str, Any]) -> int:
    return int(metadata.get("generation") or 0)


def _body(obj: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {name: obj["metadata"][name] for name in _OF_METADATA if name in obj["metadata"]}
    return {key: value for key, value in obj.items() if key != "status"} | {"metadata": metadata}


def _compressed_unless(known: bytes, text: str) -> bytes:
    """Return a text compressed, which is what is known already where it says the same: that costs a third."""
    return known if zlib.decompress(known) == text.encode() else _compressed(text)


def _older(version: int | None, than: int | None) -> bool:
    return version is not None and than is not None and version < than
