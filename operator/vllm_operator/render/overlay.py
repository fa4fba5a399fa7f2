"""The user's `podTemplate` laid over the rendered pod: it adds and changes, but never removes what is managed.

Lists are merged as Kubernetes' strategic merge patch does: items are told apart by a key, new ones are added behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vllm_operator.api.pod_template import ENGINE_CONTAINER, overlay_problems
from vllm_operator.render.errors import OverlayRefused

_MERGE_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "name",
    "imagePullSecrets": "name",
    "topologySpreadConstraints": "topologyKey",
    "hostAliases": "ip",
}
"""Lists whose items are told apart by a key; other lists are added to."""

_REPLACED_WHOLE: Final = frozenset({"volumes", "env", "volumeMounts"})
"""Items of which a merge of two would be invalid, such as a volume with two sources."""

_HANDLERS: Final = frozenset({"exec", "httpGet", "tcpSocket", "grpc", "sleep"})
"""Ways to probe or hook, of which there can be one: the overlay's replaces ours."""


def overlaid(rendered: Mapping[str, Any], overlay: Mapping[str, Any], *, gpu_resource: str) -> dict[str, Any]:
    """Return the pod template with the overlay on it.

    Raises:
        OverlayRefused: the overlay removes or replaces something managed, or has the wrong shape.
    """
    for path, message in overlay_problems(overlay):
        raise OverlayRefused(".".join(part for part in ("spec.podTemplate", path) if part), message)
    merged = _merge_mappings(rendered, overlay)
    _require_gpus(rendered, merged, gpu_resource)
    return merged


def _merge_mappings(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    if _HANDLERS & over.keys():
        merged = {key: value for key, value in base.items() if key not in _HANDLERS}
    for key, value in over.items():
        merged[key] = _merge(merged[key], value, key) if key in merged else value
    return merged


def _merge(base: Any, over: Any, key: str) -> Any:
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return _merge_mappings(base, over)
    if isinstance(base, list) and isinstance(over, list):
        return _merge_lists(base, over, key)
    # Two shapes of one field: the overlay's is kept, for the API server to refuse by its name.
    return over


def _merge_lists(base: list[Any], over: list[Any], key: str) -> list[Any]:
    merge_key = _MERGE_KEYS.get(key)
    if merge_key is None:
        return [*base, *over]
    merged = list(base)
    for item in over:
        name = item.get(merge_key)
        index = next((i for i, known in enumerate(merged) if name is not None and known.get(merge_key) == name), None)
        if index is None:
            merged.append(dict(item))
        elif key in _REPLACED_WHOLE:
            merged[index] = dict(item)
        else:
            merged[index] = _merge_mappings(merged[index], item)
    return merged


def _require_gpus(rendered: Mapping[str, Any], merged: Mapping[str, Any], gpu_resource: str) -> None:
    before, after = (_engine(template)["resources"] for template in (rendered, merged))
    for kind in ("requests", "limits"):
        if before[kind][gpu_resource] != after[kind][gpu_resource]:
            path = f"spec.podTemplate.spec.containers[{ENGINE_CONTAINER}].resources.{kind}.{gpu_resource}"
            raise OverlayRefused(path, "is planned: set spec.engine.tensorParallelSize")


def _engine(template: Mapping[str, Any]) -> dict[str, Any]:
    engine: dict[str, Any] = next(c for c in template["spec"]["containers"] if c["name"] == ENGINE_CONTAINER)
    return engine
