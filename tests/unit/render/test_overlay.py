"""How the user's pod template is laid over the rendered one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.render.errors import OverlayRefused
from vllm_operator.render.overlay import overlaid

GPU = "nvidia.com/gpu"
RENDERED: dict[str, Any] = {
    "metadata": {"labels": {"app.kubernetes.io/name": "vllm"}},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
        "enableServiceLinks": False,
        "containers": [
            {
                "name": "engine",
                "image": "vllm",
                "env": [{"name": "HOME", "value": "/tmp"}],
                "resources": {"requests": {"cpu": "2", GPU: "1"}, "limits": {GPU: "1"}},
                "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5},
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}


def _laid(overlay: dict[str, Any]) -> dict[str, Any]:
    return overlaid(RENDERED, overlay, gpu_resource=GPU)


def _engine(**fields: Any) -> dict[str, Any]:
    return _laid({"spec": {"containers": [{"name": "engine", **fields}]}})["spec"]["containers"][0]


def test_an_empty_overlay_changes_nothing() -> None:
    assert _laid({}) == RENDERED


def test_the_rendered_template_is_left_alone() -> None:
    before = copy.deepcopy(RENDERED)
    _laid({"spec": {"containers": [{"name": "engine", "env": [{"name": "A", "value": "b"}]}], "hostNetwork": True}})
    assert before == RENDERED


def test_mappings_are_merged() -> None:
    assert _laid({"spec": {"securityContext": {"runAsUser": 1000}}})["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
    }


def test_a_container_is_found_by_its_name_and_another_is_added() -> None:
    containers = _laid({"spec": {"containers": [{"name": "sidecar", "image": "x"}]}})["spec"]["containers"]
    assert [container["name"] for container in containers] == ["engine", "sidecar"]


def test_a_variable_is_replaced_whole() -> None:
    source = {"fieldRef": {"fieldPath": "status.podIP"}}
    assert _engine(env=[{"name": "HOME", "valueFrom": source}])["env"] == [{"name": "HOME", "valueFrom": source}]


def test_a_volume_is_replaced_whole() -> None:
    volumes = _laid({"spec": {"volumes": [{"name": "tmp", "hostPath": {"path": "/x"}}]}})["spec"]["volumes"]
    assert volumes == [{"name": "tmp", "hostPath": {"path": "/x"}}]


def test_another_kind_of_probe_replaces_ours_and_keeps_its_times() -> None:
    assert _engine(readinessProbe={"tcpSocket": {"port": 1}})["readinessProbe"] == {
        "tcpSocket": {"port": 1},
        "periodSeconds": 5,
    }


def test_a_device_that_the_api_does_not_know_is_guarded_too() -> None:
    rendered = copy.deepcopy(RENDERED)
    rendered["spec"]["containers"][0]["resources"] = {"requests": {"ex.com/npu": "1"}, "limits": {"ex.com/npu": "1"}}
    overlay = {"spec": {"containers": [{"name": "engine", "resources": {"limits": {"ex.com/npu": "2"}}}]}}
    with pytest.raises(OverlayRefused, match="is planned"):
        overlaid(rendered, overlay, gpu_resource="ex.com/npu")


def test_two_shapes_of_a_field_are_left_to_the_api_server() -> None:
    assert _laid({"spec": {"enableServiceLinks": {"a": 1}}})["spec"]["enableServiceLinks"] == {"a": 1}


def test_other_resources_may_be_asked_for() -> None:
    assert _engine(resources={"limits": {"memory": "5Gi"}})["resources"]["limits"] == {GPU: "1", "memory": "5Gi"}


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        pytest.param(
            {"spec": {"containers": [{"name": "engine", "resources": {"limits": {GPU: "2"}}}]}},
            "tensorParallelSize",
            id="number-of-gpus",
        ),
        pytest.param({"spec": {"containers": [{"name": "engine", "image": "x"}]}}, "spec.engine.image", id="managed"),
        pytest.param({"spec": {"containers": {"name": "engine"}}}, "must be a list", id="mapping-for-list"),
        pytest.param({"spec": {"securityContext": "none"}}, "must be a mapping", id="text-for-mapping"),
        pytest.param({"spec": {"containers": ["engine"]}}, "must be a mapping", id="text-for-item"),
        pytest.param({"spec": {"containers": [{"image": "x"}]}}, "needs a name", id="nameless"),
    ],
)
def test_what_contradicts_the_operator_is_refused(overlay: dict[str, Any], message: str) -> None:
    with pytest.raises(OverlayRefused, match=message) as caught:
        _laid(overlay)
    assert caught.value.path.startswith("spec.podTemplate.spec.")


KEYS = st.sampled_from(
    ["name", "env", "containers", "volumes", "resources", "limits", GPU, "mountPath", "readinessProbe", "exec", "x"]
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(["engine", "HOME", "tmp", ""])),
    lambda children: st.one_of(st.lists(children, max_size=3), st.dictionaries(KEYS, children, max_size=4)),
    max_leaves=20,
)


@given(JSON, JSON)
def test_any_overlay_is_laid_or_refused(spec: Any, container: Any) -> None:
    engine = {"name": "engine", **container} if isinstance(container, dict) else container
    overlay = {"spec": {**spec, "containers": [engine]} if isinstance(spec, dict) else spec}
    try:
        merged = _laid(overlay)
    except OverlayRefused:
        return
    assert merged["spec"]["containers"][0]["image"] == "vllm"
    assert merged["spec"]["containers"][0]["resources"]["limits"][GPU] == "1"
