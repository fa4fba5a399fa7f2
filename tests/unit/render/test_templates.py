"""Whatever goes into a template comes out as that value, and the structure stays the template's."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.render.errors import TemplateFault
from vllm_operator.render.templates import _shape, render_template, rendered_text

SERVICE: dict[str, Any] = {
    "name": "example",
    "namespace": "models",
    "labels": {"a": "b"},
    "annotations": {},
    "owners": [],
    "service_type": "ClusterIP",
    "selector": {"a": "b"},
    "port": 8000,
}

# Lone surrogates are no text: neither the API server nor pydantic lets one through.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_the_text_is_readable_yaml() -> None:
    text = rendered_text("service", SERVICE)
    assert 'name: "example"\n' in text
    assert yaml.safe_load(text) == render_template("service", SERVICE)


@given(TEXT)
def test_any_text_is_only_a_value(text: str) -> None:
    values = {**SERVICE, "service_type": text, "labels": {"a": text}}
    service = render_template("service", values)
    assert service == yaml.load(rendered_text("service", values), yaml.CSafeLoader)
    assert service["spec"]["type"] == text
    assert service["metadata"]["labels"] == {"a": text}
    assert list(service["spec"]) == ["type", "selector", "ports"]


@given(
    st.dictionaries(TEXT.filter(lambda key: len(key) < 200), st.one_of(TEXT, st.integers(), st.booleans(), st.none()))
)
def test_any_mapping_is_only_a_value(mapping: dict[str, object]) -> None:
    assert render_template("service", {**SERVICE, "selector": mapping})["spec"]["selector"] == mapping


@pytest.mark.parametrize(
    "code", [0x7F, 0x80, 0x85, 0xA0, 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF, 0x1F600, sys.maxunicode]
)
def test_characters_that_yaml_treats_specially_survive(code: int) -> None:
    text = f"a{chr(code)}b"
    assert render_template("service", {**SERVICE, "service_type": text})["spec"]["type"] == text


def test_a_missing_value_is_named() -> None:
    values = {key: value for key, value in SERVICE.items() if key != "port"}
    with pytest.raises(TemplateFault, match="'port' is undefined"):
        render_template("service", values)


@pytest.mark.parametrize("value", [1e16, 0.5, float("nan"), {"a": [1.5]}])
def test_a_float_is_refused_because_yaml_reads_it_differently(value: object) -> None:
    with pytest.raises(TemplateFault, match="is a float"):
        render_template("service", {**SERVICE, "port": value})


def test_a_text_like_a_placeholder_is_a_value_like_any_other() -> None:
    service = render_template("service", {**SERVICE, "service_type": "__value_0__", "labels": {"a": "__value_1__"}})
    assert service["spec"]["type"] == "__value_0__"
    assert service["metadata"]["labels"] == {"a": "__value_1__"}


def test_two_objects_of_one_shape_share_nothing() -> None:
    labels = {"a": "b"}
    first = render_template("service", {**SERVICE, "labels": labels})
    first["metadata"]["labels"]["c"] = "d"
    first["spec"]["ports"].clear()

    assert labels == {"a": "b"}
    second = render_template("service", {**SERVICE, "labels": labels})
    assert second["metadata"]["labels"] == {"a": "b"}
    assert second["spec"]["ports"]


@pytest.mark.parametrize(
    "text",
    ['metadata: {name: x-"__value_0__"}\n', '"__value_0__": 1\n', 'a: "__value_0__"\nb: c"__value_1__"\n'],
    ids=["a part of a value", "a key", "one of two"],
)
def test_a_template_must_use_an_expression_as_a_whole_value(text: str) -> None:
    with pytest.raises(TemplateFault, match="only a part of a value"):
        _shape("faulty", text)
