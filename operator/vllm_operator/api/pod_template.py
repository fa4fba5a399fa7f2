"""What `spec.podTemplate` may say: it adds to the pod, and never removes or replaces what the operator manages.

The API server cannot check a free-form object, so its bounds are here: for the webhook, the command line and the
condition alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE_CONTAINER: Final = "engine"
"""Name of the container that runs vLLM."""
ENGINE_PORT_NAME: Final = "http"

LARGEST_OVERLAY_BYTES: Final = 65_536
DEEPEST_OVERLAY: Final = 32
"""Levels of nesting; the deepest field of a pod template, a label selector in a volume's claim, is at the twelfth."""

_MANAGED: Final = {
    "spec.restartPolicy": "a Deployment's pods always restart",
    "spec.nodeName": "the scheduler chooses the node; set spec.gpu.nodeSelector",
    "spec.nodeSelector": "set spec.gpu.nodeSelector: the planner must know it",
    "spec.tolerations": "set spec.gpu.tolerations: the planner must know them",
    "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution": (
        "set spec.gpu.nodeSelector or spec.gpu.products: the planner must know it"
    ),
    "spec.terminationGracePeriodSeconds": "it follows from the time that vLLM has to finish requests",
    f"spec.containers[{ENGINE_CONTAINER}].image": "set spec.engine.image",
    f"spec.containers[{ENGINE_CONTAINER}].command": "the engine is always `vllm serve`; set spec.engine.image",
    f"spec.containers[{ENGINE_CONTAINER}].args": "set spec.engine.extraArgs",
    f"spec.containers[{ENGINE_CONTAINER}].terminationMessagePath": "the operator reads the engine's last words there",
    f"spec.containers[{ENGINE_CONTAINER}].terminationMessagePolicy": "the operator reads the engine's last words there",
    f"spec.containers[{ENGINE_CONTAINER}].ports[{ENGINE_PORT_NAME}]": "set spec.service.port",
}
"""Path in the overlay to the reason why it is refused and what to set instead."""

_LISTS_BY_NAME: Final = frozenset({"containers", "initContainers", "volumes", "env", "imagePullSecrets"})
_LISTS: Final = frozenset(
    {*_LISTS_BY_NAME, "volumeMounts", "ports", "topologySpreadConstraints", "hostAliases", "drop"}
)
_MAPPINGS: Final = frozenset(
    {
        "affinity",
        "capabilities",
        "lifecycle",
        "limits",
        "livenessProbe",
        "nodeAffinity",
        "preStop",
        "readinessProbe",
        "requests",
        "resources",
        "securityContext",
        "seccompProfile",
        "startupProbe",
    }
)
"""Fields of a pod that the operator renders, by their shape."""

_GPU_RESOURCE: Final = re.compile(r"[^/]+/(gpu|mig-|vgpu|gaudi)")
_GPU_PATHS: Final = tuple(f"spec.containers[{ENGINE_CONTAINER}].resources.{kind}." for kind in ("requests", "limits"))

_METADATA: Final = ("labels", "annotations")
_OWN_PREFIXES: Final = ("vllm-operator.io/", "app.kubernetes.io/")


def _is_deep(value: object) -> bool:
    """Whether a value is nested too deeply; walked level by level, as a depth that Python takes is not promised."""
    level = [value]
    for _ in range(DEEPEST_OVERLAY):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: object) -> Sequence[object]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else ()


def overlay_problems(overlay: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield path (relative to the overlay) and message of everything that the overlay may not say."""
    if _is_deep(overlay):
        yield "", f"is nested more than {DEEPEST_OVERLAY} levels deep"
        return
    size = len(json.dumps(overlay, default=str).encode())
    if size > LARGEST_OVERLAY_BYTES:
        yield "", f"has {size} bytes of JSON; at most {LARGEST_OVERLAY_BYTES} are accepted"
        return
    for key in overlay:
        if key not in ("metadata", "spec"):
            yield str(key), "unknown field: a pod template has metadata and spec"
    yield from _removals(overlay, "")
    yield from _metadata_problems(overlay.get("metadata"))
    spec = overlay.get("spec")
    if spec is not None and not isinstance(spec, Mapping):
        yield "spec", "must be a mapping"
    elif spec is not None:
        yield from _managed(spec, "spec")


def _removals(node: object, path: str) -> Iterator[tuple[str, str]]:
    if node is None:
        yield path, "null would remove the field; an overlay only adds"
    elif isinstance(node, Mapping):
        for key, child in node.items():
            inner = f"{path}.{key}" if path else str(key)
            if str(key).startswith("$"):
                yield inner, "patch directives are not supported; an overlay only adds"
            else:
                yield from _removals(child, inner)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for index, child in enumerate(node):
            yield from _removals(child, f"{path}[{index}]")


def _metadata_problems(metadata: object) -> Iterator[tuple[str, str]]:
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        yield "metadata", "must be a mapping"
        return
    for key, value in metadata.items():
        if key not in _METADATA:
            yield f"metadata.{key}", "only labels and annotations can be added"
        elif not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
            yield f"metadata.{key}", "must map names to text"
        else:
            for name in value:
                if str(name).startswith(_OWN_PREFIXES):
                    yield f"metadata.{key}.{name}", "is the operator's own: choose another prefix"


def _managed(node: object, path: str) -> Iterator[tuple[str, str]]:
    reason = _MANAGED.get(path)
    if reason is not None:
        yield path, f"is managed by the operator: {reason}"
    elif path.startswith(_GPU_PATHS) and _GPU_RESOURCE.match(path.partition("].resources.")[2].partition(".")[2]):
        yield path, "is planned: set spec.engine.tensorParallelSize"
    elif isinstance(node, Mapping):
        for key, child in node.items():
            yield from _shape(child, f"{path}.{key}", str(key))
            yield from _managed(child, f"{path}.{key}")
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for index, item in enumerate(node):
            name = item.get("name") if isinstance(item, Mapping) else None
            yield from _managed(item, f"{path}[{index if name is None else name}]")


def _shape(node: object, path: str, key: str) -> Iterator[tuple[str, str]]:
    if key in _MAPPINGS and not isinstance(node, Mapping):
        yield path, "must be a mapping"
    if key not in _LISTS:
        return
    if not isinstance(node, Sequence) or isinstance(node, str):
        yield path, "must be a list"
        return
    for index, item in enumerate(node):
        if key != "drop" and not isinstance(item, Mapping):
            yield f"{path}[{index}]", "must be a mapping"
        elif isinstance(item, Mapping) and key in _LISTS_BY_NAME and not isinstance(item.get("name"), str):
            yield f"{path}[{index}]", "needs a name"
