"""The overlay's bounds: it adds, and never removes or replaces what is managed."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.api.pod_template import DEEPEST_OVERLAY, LARGEST_OVERLAY_BYTES, overlay_problems


def _engine(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "engine", **fields}]}}


@pytest.mark.parametrize(
    "overlay",
    [
        pytest.param({}, id="empty"),
        pytest.param({"metadata": {"labels": {"team": "a"}, "annotations": {"example.com/x": "y"}}}, id="metadata"),
        pytest.param(_engine(env=[{"name": "A", "value": "b"}]), id="variable"),
        pytest.param(_engine(resources={"limits": {"memory": "5Gi"}}), id="memory-limit"),
        pytest.param({"spec": {"priorityClassName": "high", "runtimeClassName": "nvidia"}}, id="pod-fields"),
        pytest.param({"spec": {"containers": [{"name": "sidecar", "image": "x", "args": ["y"]}]}}, id="sidecar"),
        pytest.param({"spec": {"affinity": {"podAntiAffinity": {}}}}, id="pod-affinity"),
    ],
)
def test_an_addition_is_accepted(overlay: dict[str, Any]) -> None:
    assert list(overlay_problems(overlay)) == []


@pytest.mark.parametrize(
    ("overlay", "path"),
    [
        pytest.param({"kind": "Pod"}, "kind", id="not-a-template"),
        pytest.param({"metadata": {"name": "x"}}, "metadata.name", id="name"),
        pytest.param({"metadata": {"labels": {"a": 1}}}, "metadata.labels", id="label-not-text"),
        pytest.param(
            {"metadata": {"labels": {"app.kubernetes.io/instance": "x"}}},
            "metadata.labels.app.kubernetes.io/instance",
            id="selector",
        ),
        pytest.param({"spec": []}, "spec", id="list-for-mapping"),
        pytest.param({"spec": {"securityContext": None}}, "spec.securityContext", id="null"),
        pytest.param({"spec": {"containers": [{"$patch": "delete"}]}}, "spec.containers[0].$patch", id="directive"),
        pytest.param({"spec": {"nodeSelector": {"a": "b"}}}, "spec.nodeSelector", id="node-selector"),
        pytest.param({"spec": {"nodeName": "n"}}, "spec.nodeName", id="node-name"),
        pytest.param({"spec": {"containers": {"name": "x"}}}, "spec.containers", id="mapping-for-list"),
        pytest.param({"spec": {"containers": ["engine"]}}, "spec.containers[0]", id="text-for-container"),
        pytest.param({"spec": {"containers": [{"image": "x"}]}}, "spec.containers[0]", id="nameless"),
        pytest.param({"spec": {"securityContext": "none"}}, "spec.securityContext", id="text-for-mapping"),
        pytest.param(
            _engine(resources={"limits": {"nvidia.com/gpu": 2}}),
            "spec.containers[engine].resources.limits.nvidia.com/gpu",
            id="gpus",
        ),
        pytest.param(_engine(image="x"), "spec.containers[engine].image", id="image"),
        pytest.param(_engine(args=["x"]), "spec.containers[engine].args", id="args"),
        pytest.param(_engine(command=["x"]), "spec.containers[engine].command", id="command"),
        pytest.param(
            _engine(ports=[{"name": "http", "containerPort": 1}]),
            "spec.containers[engine].ports[http]",
            id="port",
        ),
    ],
)
def test_a_replacement_is_refused_by_its_path(overlay: dict[str, Any], path: str) -> None:
    assert path in [where for where, _ in overlay_problems(overlay)]


def test_an_overlay_has_a_largest_size() -> None:
    overlay = {"metadata": {"annotations": {"a": "x" * LARGEST_OVERLAY_BYTES}}}
    ((path, message),) = overlay_problems(overlay)
    assert path == ""
    assert str(LARGEST_OVERLAY_BYTES) in message


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {"a": "b"}
    for _ in range(levels - 1):
        found = {"a": found} if levels % 2 else {"a": [found]}
    return found


@pytest.mark.parametrize("levels", [DEEPEST_OVERLAY, 99, 500, 5_001])
def test_an_overlay_has_a_greatest_depth(levels: int) -> None:
    ((path, message),) = overlay_problems({"metadata": {}, "spec": nested(levels)})
    assert path == ""
    assert str(DEEPEST_OVERLAY) in message
