"""Whatever goes into a template comes out as that value, and the structure stays the template's."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.render.errors import TemplateFault
from vllm_operator.render.templates import render_template, rendered_text

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
    service = render_template("service", {**SERVICE, "service_type": text, "labels": {"a": text}})
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
