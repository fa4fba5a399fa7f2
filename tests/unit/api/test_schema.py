"""The generated CRD: what is committed, structural, bounded, described, and equal to the models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vllm_operator.api.schema import DEFAULTS_SHOWN, LIST_MAP_KEYS, crd, crd_yaml
from vllm_operator.api.v1alpha1 import VLLMDeploymentSpec, parse_deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
VERSION: dict[str, Any] = crd()["spec"]["versions"][0]
SCHEMA: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]


def _nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from _nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _nodes(schema["additionalProperties"], f"{path}{{}}")


NODES = [(path, node) for path, node in _nodes(SCHEMA, "") if path not in ("", "apiVersion", "kind", "metadata")]


@pytest.mark.parametrize(
    "path",
    ["crds/vllmdeployments.vllm-operator.io.yaml", "charts/vllm-operator/crds/vllmdeployments.vllm-operator.io.yaml"],
)
def test_the_committed_crd_is_the_generated_one(path: str) -> None:
    assert (ROOT / path).read_text() == crd_yaml(), "run `make crds`"


def test_every_field_has_a_description() -> None:
    undescribed = [path for path, node in NODES if not path.endswith(("[]", "{}")) and not node.get("description")]
    assert undescribed == []


def test_every_string_list_and_map_is_bounded() -> None:
    bound = {"string": ("maxLength", "enum"), "array": ("maxItems",), "object": ("maxProperties", "properties")}
    unbounded = [
        path
        for path, node in NODES
        if node["type"] in bound
        and not any(key in node for key in bound[node["type"]])
        and not node.get("x-kubernetes-preserve-unknown-fields")
    ]
    assert unbounded == []


def test_every_number_of_the_spec_is_bounded() -> None:
    numbers = [
        (path, node) for path, node in NODES if path.startswith("spec") and node["type"] in ("integer", "number")
    ]
    assert [path for path, node in numbers if "enum" not in node and not {"minimum", "maximum"} <= node.keys()] == []


def test_only_the_pod_template_is_free_form() -> None:
    free = [path for path, node in NODES if node.get("x-kubernetes-preserve-unknown-fields")]
    assert free == ["spec.podTemplate"]


def test_conditions_are_a_map_by_type() -> None:
    (conditions,) = (node for path, node in NODES if path == "status.conditions")
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == LIST_MAP_KEYS["status.conditions"] == ["type"]


def test_defaults_of_the_crd_are_those_of_the_models() -> None:
    shown = {path: node["default"] for path, node in NODES if "default" in node}
    assert set(shown) == set(DEFAULTS_SHOWN)
    spec = parse_deployment({"spec": {"model": {"uri": "org/name"}}}).spec
    for path, default in shown.items():
        section, field = path.split(".")[1:]
        assert spec.model_dump(mode="json", by_alias=True)[section][field] == default


def test_the_columns_are_the_documented_ones() -> None:
    columns = VERSION["additionalPrinterColumns"]
    narrow = [column["name"] for column in columns if not column.get("priority")]
    wide = [column["name"] for column in columns if column.get("priority") == 1]
    assert narrow == ["Model", "Verdict", "Risk", "GPUs", "Ready", "Status", "Age"]
    assert wide == ["GPU", "Context", "Concurrency", "Headroom", "Message"]


def test_status_and_scale_are_subresources() -> None:
    assert VERSION["subresources"]["status"] == {}
    assert VERSION["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }


def test_required_fields_are_the_models() -> None:
    required = {path: node["required"] for path, node in NODES if "required" in node and path.startswith("spec")}
    assert required["spec"] == [name for name, field in VLLMDeploymentSpec.model_fields.items() if field.is_required()]
    assert required["spec.model"] == ["uri"]
