"""The fields of an object that one manager applied, so that another client can apply the same object."""

from __future__ import annotations

import json
from typing import Any

Manifest = dict[str, Any]


def applied_by(obj: Manifest, manager: str) -> Manifest:
    """Return the object as its manager applied it: what `managedFields` says is its own, and what identifies it."""
    (entry,) = (
        entry
        for entry in obj["metadata"]["managedFields"]
        if entry["manager"] == manager and entry["operation"] == "Apply"
    )
    applied: Manifest = _owned(obj, entry["fieldsV1"])
    applied["apiVersion"], applied["kind"] = obj["apiVersion"], obj["kind"]
    applied.setdefault("metadata", {}).update({key: obj["metadata"][key] for key in ("name", "namespace")})
    return applied


def _owned(value: Any, fields: Manifest) -> Any:
    """Follow a set of fields (structured-merge-diff's FieldsV1): `f:` a field, `k:` an item by keys, `v:` a value."""
    inner = {path: below for path, below in fields.items() if path != "."}
    if not inner:
        return value
    if isinstance(value, list):
        return [_owned(item, inner[path]) for item in value if (path := _path_of(item, inner)) is not None]
    return {path[2:]: _owned(value[path[2:]], below) for path, below in inner.items()}


def _path_of(item: Any, fields: Manifest) -> str | None:
    for path in fields:
        kind, _, text = path.partition(":")
        stated = json.loads(text)
        if kind == "v" and stated == item:
            return path
        if kind == "k" and all(item.get(key) == value for key, value in stated.items()):
            return path
    return None
