"""Rules between fields accept and refuse the table's examples; the same table is applied to the real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vllm_operator.api.rules import RULES
from vllm_operator.api.v1alpha1 import SpecError, parse_deployment

EXAMPLES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("rule_examples.yaml").read_text())


def _object(spec: dict[str, Any], name: str = "example") -> dict[str, Any]:
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }


def _cases(kind: str) -> list[Any]:
    return [
        pytest.param(example["rule"], spec, id=f"{number}-{index}")
        for number, example in enumerate(EXAMPLES)
        for index, spec in enumerate(example[kind])
    ]


@pytest.mark.parametrize(("rule", "spec"), _cases("accepts"))
def test_a_consistent_spec_is_accepted(rule: str, spec: dict[str, Any]) -> None:
    parse_deployment(_object(spec))


@pytest.mark.parametrize(("rule", "spec"), _cases("refuses"))
def test_a_contradiction_is_refused_with_the_rules_message(rule: str, spec: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=rule.replace("+", r"\+")):
        parse_deployment(_object(spec))


def test_every_rule_has_examples() -> None:
    tried = [example["rule"] for example in EXAMPLES if example.get("at") != "command"]
    assert [rule.message for rule in RULES if not any(part in rule.message for part in tried)] == []


@pytest.mark.parametrize("name", ["llama-8b", "a", "a" * 63])
def test_a_name_that_a_service_can_have_is_accepted(name: str) -> None:
    assert parse_deployment(_object({"model": {"uri": "org/name"}}, name)).metadata.name == name


@pytest.mark.parametrize("name", ["8b", "llama.8b", "a" * 64, "a-"])
def test_a_name_that_a_service_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_deployment(_object({"model": {"uri": "org/name"}}, name))
    assert [path for path, _ in caught.value.problems] == ["metadata.name"]
