"""A hostile string in any text field changes its own value in the rendered objects, and nothing else.

The fields are those of the API's own schema, so a new field is tried as soon as it exists. Each string is put into one
field of a deployment that sets every field; it is either refused at the border, or the objects are those of a harmless
string with that string replaced. The whole way is real: parsing, planning, rendering.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from vllm_operator.api.schema import crd
from vllm_operator.api.v1alpha1 import SpecError, parse_deployment
from vllm_operator.cluster.documents import read_inventory
from vllm_operator.models.catalogue import lookup
from vllm_operator.planning.decide import plan
from vllm_operator.render.objects import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.cluster.inventory import Inventory

MODEL = "Qwen/Qwen3-8B"
NODE_SELECTOR = ("gpu", "nodeSelector", "pool")

FULL_SPEC: dict[str, Any] = {
    "model": {
        "uri": MODEL,
        "revision": "main",
        "servedName": "served",
        "tokenSecretRef": {"name": "token", "key": "key"},
        "configRef": {"name": "facts", "key": "config.json"},
    },
    "engine": {
        "version": "0.33.0",
        "image": "registry.example/vllm:v1",
        "dtype": "auto",
        "quantization": "fp8",
        "kvCacheDtype": "auto",
        "lora": {"adapters": [{"name": "adapter", "uri": "org/adapter"}]},
        "speculative": {"method": "eagle3", "modelUri": "org/draft", "tokens": 3},
        "toolCalling": "hermes",
        "reasoning": "qwen3",
        "extraArgs": ["--seed=1"],
        "env": [{"name": "PLAIN", "value": "value"}, {"name": "SECRET", "secretKeyRef": {"name": "env", "key": "key"}}],
    },
    "gpu": {
        "resourceName": "nvidia.com/gpu",
        "products": ["h", "*"],
        "minMemory": "40Gi",
        "tolerations": [{"key": "taint", "operator": "Equal", "value": "tainted", "effect": "NoSchedule"}],
    },
    "cache": {"type": "PersistentVolumeClaim", "size": "100Gi", "storageClassName": "fast"},
    "podTemplate": {
        "metadata": {"annotations": {"example.com/note": "note"}},
        "spec": {"containers": [{"name": "engine", "env": [{"name": "OVERLAY", "value": "overlay"}]}]},
    },
}

HOSTILE = {
    "double-quote": 'a"b',
    "single-quote": "a'b",
    "newline": "a\nb: c",
    "windows-newline": "a\r\nb",
    "template": "{{ 7 * 7 }}",
    "template-statement": "{% raw %}",
    "mapping": "a: b",
    "list": "- a",
    "tag": "!!python/object/apply:os.system [id]",
    "anchor": "&a *a",
    "flow": "{a: [b]}",
    "comment": "a # b",
    "document": "--- a",
    "boolean": "yes",
    "number": "1e3",
    "null": "~",
    "backslash": "a\\u0041\\",
    "line-separator": "a\u2028b\u0085c",
    "control": "a\x7fb\x1bc",
    "astral": "a\U0001f600b",
    "long": "x" * 10_240,
}


def _text_fields(schema: dict[str, Any], path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if schema["type"] == "string" and "enum" not in schema:
        yield path
    for name, child in schema.get("properties", {}).items():
        yield from _text_fields(child, (*path, name))
    if "items" in schema:
        yield from _text_fields(schema["items"], (*path, 0))


SPEC_SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
FIELDS = [
    *_text_fields(SPEC_SCHEMA, ()),
    NODE_SELECTOR,
    ("podTemplate", "metadata", "annotations", "example.com/note"),
    ("podTemplate", "spec", "containers", 0, "env", 0, "value"),
]


def _inventory(pool: str) -> Inventory:
    labels = {
        "kubernetes.io/hostname": "node",
        "nvidia.com/gpu.product": "NVIDIA-H100",
        "nvidia.com/gpu.memory": "81559",
    }
    allocatable = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "8"}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node", "labels": {**labels, "pool": pool}},
        "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    return read_inventory([node])


def _objects(spec: dict[str, Any]) -> list[dict[str, Any]]:
    deployment = parse_deployment({"metadata": {"name": "example"}, "spec": spec})
    planned = plan(deployment.spec, lookup(MODEL), _inventory(spec["gpu"].get("nodeSelector", {}).get("pool", "pool")))
    return render(planned, deployment, namespace="models", name="example", uid="uid")


def _with(path: tuple[str | int, ...], value: str) -> dict[str, Any]:
    """The full spec with one field set; what excludes that field is removed."""
    spec = copy.deepcopy(FULL_SPEC)
    node: Any = spec
    for step in path[:-1]:
        node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
    node[path[-1]] = value
    if path[:2] == ("cache", "hostPath"):
        spec["cache"] = {"type": "HostPath", "hostPath": f"/{value}"}
    if path[:4] == ("engine", "env", 0, "secretKeyRef"):
        del spec["engine"]["env"][0]["value"]
        spec["engine"]["env"][0]["secretKeyRef"] = {"name": "env", path[-1]: value}
    return spec


def _neutral(node: Any, value: str) -> Any:
    """The objects with a value replaced, and without the digest that every change moves."""
    if isinstance(node, dict):
        return {
            key: "" if key == "vllm-operator.io/plan-hash" else _neutral(child, value) for key, child in node.items()
        }
    if isinstance(node, list):
        return [_neutral(child, value) for child in node]
    return node.replace(value, "\0") if isinstance(node, str) else node


def _is_accepted(spec: dict[str, Any]) -> bool:
    try:
        parse_deployment({"metadata": {"name": "example"}, "spec": spec})
    except SpecError:
        return False
    return True


def _name(path: tuple[str | int, ...]) -> str:
    return ".".join(str(step) for step in path)


@pytest.mark.parametrize("path", FIELDS, ids=_name)
def test_a_hostile_string_changes_nothing_but_its_own_value(path: tuple[str | int, ...]) -> None:
    for kind, value in HOSTILE.items():
        spec = _with(path, value)
        if not _is_accepted(spec):
            continue
        assert _neutral(_objects(spec), value) == _neutral(_objects(_with(path, HARMLESS)), HARMLESS), kind


HARMLESS = "harmless"

PLANNER_ONLY = ("gpu", "products", 0)
"""Text that is matched against the nodes and never rendered."""

FREE = [path for path in FIELDS if _is_accepted(_with(path, HOSTILE["newline"]))]


def test_the_free_text_fields_are_the_ones_that_were_meant_to_be() -> None:
    assert {_name(path) for path in FREE} == {
        "engine.env.0.value",
        "engine.extraArgs.0",
        "gpu.products.0",
        "cache.hostPath",
        "podTemplate.metadata.annotations.example.com/note",
        "podTemplate.spec.containers.0.env.0.value",
    }


@pytest.mark.parametrize("path", [path for path in FREE if path != PLANNER_ONLY], ids=_name)
def test_a_free_text_arrives_unchanged(path: tuple[str | int, ...]) -> None:
    value = HOSTILE["newline"] + HOSTILE["template"] + HOSTILE["astral"]
    if not _is_accepted(_with(path, value)):
        value = HOSTILE["newline"]
    assert "\0" in str(_neutral(_objects(_with(path, value)), value)).replace("\\x00", "\0")


@pytest.mark.parametrize("value", ["$(HF_TOKEN)", "$$(HF_TOKEN)", "$", "a$b"])
def test_an_argument_is_not_expanded_by_the_kubelet(value: str) -> None:
    objects = _objects(_with(("engine", "extraArgs", 0), f"--seed={value}"))
    args = objects[1]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--seed=" + value.replace("$", "$$") in args
