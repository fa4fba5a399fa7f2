"""Names, labels and annotations on everything that we make."""

from __future__ import annotations

from typing import Final

MANAGER: Final = "vllm-operator"
"""Field manager of every apply, and the value of `app.kubernetes.io/managed-by`."""

NAME_LABEL: Final = "app.kubernetes.io/name"
INSTANCE_LABEL: Final = "app.kubernetes.io/instance"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"

PLAN_HASH_ANNOTATION: Final = "vllm-operator.io/plan-hash"
"""On every object and on the pods: which plan they were rendered from. The runtime keeps the pods of an unchanged spec
as they are, whatever this says (runtime/pinning.py)."""
ROLLOUT_ANNOTATION: Final = "vllm-operator.io/rollout"
"""On the Deployment: why pods are replaced the way they are."""
LOGGING_ANNOTATION: Final = "vllm-operator.io/logging-config"
"""On the pods: the engine's logging configuration, which the pod itself mounts as a file."""

LONGEST_LABEL_VALUE: Final = 63


def selector_labels(name: str) -> dict[str, str]:
    """Return what a Deployment and its Service select pods by; it can never change once made."""
    return {
        NAME_LABEL: "vllm",
        INSTANCE_LABEL: name[:LONGEST_LABEL_VALUE].rstrip("-."),
        COMPONENT_LABEL: "model-server",
    }


def worker_labels(name: str) -> dict[str, str]:
    """Return the labels of pods that work for a leader and serve nobody: no Service and no scraper selects them."""
    return {**object_labels(name), COMPONENT_LABEL: "model-worker"}


def all_pods_labels(name: str) -> dict[str, str]:
    """Return what selects every pod of a deployment, whether or not it serves."""
    return {key: value for key, value in selector_labels(name).items() if key != COMPONENT_LABEL}


def object_labels(name: str) -> dict[str, str]:
    """Return the recommended labels of an object."""
    return {**selector_labels(name), MANAGED_BY_LABEL: MANAGER}


def selector_text(name: str) -> str:
    """Return the selector as the scale subresource shows it."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector_labels(name).items()))
