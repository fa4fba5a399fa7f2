"""Parsing names each wrong field by its path and says in words what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.api.v1alpha1 import SpecError, parse_deployment


def _problems(obj: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_deployment(obj)
    return dict(caught.value.problems)


def _with(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMDeployment",
        "metadata": {"name": "example"},
        "spec": {"model": {"uri": "org/name"}, **spec},
    }


def test_only_the_model_is_required() -> None:
    spec = parse_deployment(_with()).spec
    assert spec.workload.concurrency == 1
    assert spec.workload.context_length is None
    assert spec.engine.tensor_parallel_size is None
    assert spec.desired_replicas == 1


@pytest.mark.parametrize(
    ("spec", "path", "part"),
    [
        pytest.param({"model": {}}, "spec.model.uri", "required", id="missing"),
        pytest.param({"modle": {}}, "spec.modle", "unknown field", id="unknown"),
        pytest.param({"workload": {"concurrency": -1}}, "spec.workload.concurrency", "greater than", id="negative"),
        pytest.param({"workload": {"concurrency": "many"}}, "spec.workload.concurrency", "integer", id="mistyped"),
        pytest.param(
            {"policy": {"gpuMemoryUtilization": 90}}, "spec.policy.gpuMemoryUtilization", "less", id="per-cent"
        ),
        pytest.param({"policy": {"admission": "Maybe"}}, "spec.policy.admission", "'Enforce'", id="enumeration"),
        pytest.param({"gpu": {"minMemory": "40 GB"}}, "spec.gpu.minMemory", "such as 40Gi", id="quantity"),
        pytest.param({"engine": {"env": [{"value": "x"}]}}, "spec.engine.env[0].name", "required", id="list-item"),
        pytest.param({"model": {"uri": "ftp://host/x"}}, "spec.model.uri", "pvc://claim/path", id="scheme"),
        pytest.param({"model": {"uri": "o/n", "servedName": "-x"}}, "spec.model.servedName", "pattern", id="a-flag"),
    ],
)
def test_a_wrong_field_is_named(spec: dict[str, Any], path: str, part: str) -> None:
    problems = _problems(_with(**spec))
    assert part in problems[path]
    assert "pydantic" not in str(problems)


def test_a_managed_flag_is_refused_by_name_with_the_field_to_use() -> None:
    problems = _problems(_with(engine={"extraArgs": ["--seed=1", "--max_model_len=1"]}))
    assert problems["spec.engine.extraArgs[1]"] == (
        "--max-model-len is managed by the operator: set spec.workload.contextLength"
    )


def test_an_overlay_of_managed_fields_is_refused() -> None:
    problems = _problems(_with(podTemplate={"spec": {"containers": [{"name": "engine", "image": "x"}]}}))
    assert "set spec.engine.image" in problems["spec.podTemplate.spec.containers[engine].image"]


def test_another_kind_is_refused() -> None:
    assert "kind" in _problems({**_with(), "kind": "Deployment"})


def test_an_unreadable_status_counts_as_empty() -> None:
    deployment = parse_deployment({**_with(), "status": {"verdict": "Perhaps"}})
    assert deployment.status.verdict is None
