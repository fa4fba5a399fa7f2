"""The user's `podTemplate` laid over the rendered pod: it adds and changes, but never removes what is managed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_MERGE_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "name",
    "imagePullSecrets": "name",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists whose items are told apart by a key, as Kubernetes' strategic merge patch does."""


def overlaid(
    rendered: Mapping[str, Any], overlay: Mapping[str, Any], *, fixed_labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the pod template with the overlay on it.

    `fixed_labels` are the selector's: whatever the overlay says, the Deployment must find its own pods.
    """
    merged = _merge_mappings(rendered, overlay)
    metadata = merged.setdefault("metadata", {})
    labels = metadata.get("labels")
    metadata["labels"] = {**(labels if isinstance(labels, Mapping) else {}), **fixed_labels}
    return merged


def _merge_mappings(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            continue
        merged[key] = _merge(base.get(key), value, key)
    return merged


def _merge(base: Any, over: Any, key: str) -> Any:
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return _merge_mappings(base, over)
    if isinstance(base, list) and isinstance(over, list):
        return _merge_lists(base, over, _MERGE_KEYS.get(key))
    return over


def _merge_lists(base: list[Any], over: list[Any], merge_key: str | None) -> list[Any]:
    """Items with the same key are merged in place, others added behind; without a key everything is added."""
    merged = list(base)
    for item in over:
        name = item.get(merge_key) if merge_key and isinstance(item, Mapping) else None
        index = next((i for i, known in enumerate(merged) if name is not None and known.get(merge_key) == name), None)
        if index is None:
            merged.append(item)
        else:
            merged[index] = _merge_mappings(merged[index], item)
    return merged
