"""The samples that users meet first say what they claim, on the nodes beside them, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from vllm_operator.api.v1alpha1 import KIND, VLLMDeployment, parse_deployment
from vllm_operator.cluster.documents import read_inventory
from vllm_operator.models.catalogue import lookup
from vllm_operator.models.source.given import facts_of_config_map
from vllm_operator.planning.decide import plan
from vllm_operator.planning.plan import OomRisk, Plan, Verdict
from vllm_operator.render.objects import render

if TYPE_CHECKING:
    from vllm_operator.models.facts import ModelFacts

EXAMPLES = Path(__file__).resolve().parents[3] / "manifests" / "examples"
ANSWERS = {
    "air-gapped": (Verdict.FITS, OomRisk.LOW),
    "llama-8b": (Verdict.FITS, OomRisk.LOW),
    "llama-70b": (Verdict.FITS, OomRisk.LOW),
    "llama-405b": (Verdict.DOES_NOT_FIT, OomRisk.HIGH),
    "qwen3-8b-tight": (Verdict.FITS, OomRisk.MEDIUM),
}


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))


def _facts(deployment: VLLMDeployment, documents: list[dict[str, Any]]) -> ModelFacts | None:
    reference = deployment.spec.model.config_ref
    if reference is None:
        return lookup(deployment.spec.model.uri)
    (config_map,) = (d for d in documents if d["kind"] == "ConfigMap" and d["metadata"]["name"] == reference.name)
    return facts_of_config_map(config_map["data"], uri=deployment.spec.model.uri, key=reference.key)


def _planned(name: str) -> tuple[VLLMDeployment, Plan]:
    documents = _documents(name)
    (obj,) = (document for document in documents if document["kind"] == KIND)
    deployment = parse_deployment(obj)
    return deployment, plan(deployment.spec, _facts(deployment, documents), read_inventory(_documents("nodes")))


def test_every_sample_has_an_answer() -> None:
    samples = {path.stem for path in EXAMPLES.glob("*.yaml") if f"kind: {KIND}\n" in path.read_text()}
    assert set(ANSWERS) <= samples


@pytest.mark.parametrize("name", ANSWERS)
def test_a_sample_gets_the_answer_that_it_is_there_to_show(name: str) -> None:
    _, planned = _planned(name)
    assert (planned.verdict, planned.oom_risk) == ANSWERS[name], planned.message


def test_the_70b_sample_is_spread_over_the_gpus_of_one_node() -> None:
    _, planned = _planned("llama-70b")
    assert planned.tensor_parallel_size > 1


def test_the_405b_sample_comes_with_a_fix() -> None:
    _, planned = _planned("llama-405b")
    assert planned.suggestions


@pytest.mark.parametrize("name", [name for name, (verdict, _) in ANSWERS.items() if verdict is Verdict.FITS])
def test_a_sample_that_fits_renders_to_valid_objects(name: str) -> None:
    deployment, planned = _planned(name)
    for obj in render(planned, deployment, namespace="default", name=name):
        kubernetes_validate.validate(obj, kubernetes_validate.latest_version(), strict=True)
