"""The samples that users meet first say what they claim, on the nodes beside them, without a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml
from tests.unit.render.plans import known_to_kubernetes

from vllm_operator.api.v1alpha1 import KIND, BatchingMode, VLLMDeployment, parse_deployment
from vllm_operator.cluster.documents import read_inventory
from vllm_operator.models.catalogue import lookup
from vllm_operator.models.source.given import facts_of_config_map
from vllm_operator.planning.decide import Capabilities, plan
from vllm_operator.planning.plan import OomRisk, Plan, Verdict
from vllm_operator.render.objects import render

if TYPE_CHECKING:
    from vllm_operator.models.facts import ModelFacts

EXAMPLES = Path(__file__).resolve().parents[3] / "manifests" / "examples"
NODES = ("nodes", "nodes-shared", "nodes-pair")
ALL_THERE_IS = Capabilities(leader_worker_sets=True)
SAMPLES = sorted(path.stem for path in EXAMPLES.glob("*.yaml") if path.stem not in NODES)
ANSWERS = {
    "auto-adjust": (Verdict.FITS, OomRisk.MEDIUM),
    "llama-405b": (Verdict.DOES_NOT_FIT, OomRisk.HIGH),
    "mig-slice": (Verdict.FITS, OomRisk.LOW),
    "qwen3-8b-tight": (Verdict.FITS, OomRisk.MEDIUM),
    "time-slicing": (Verdict.FITS, OomRisk.HIGH),
}
"""What is not here fits with ease."""


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))


def _facts(deployment: VLLMDeployment, documents: list[dict[str, Any]]) -> ModelFacts | None:
    reference = deployment.spec.model.config_ref
    if reference is None:
        return lookup(deployment.spec.model.uri)
    (config_map,) = (d for d in documents if d["kind"] == "ConfigMap" and d["metadata"]["name"] == reference.name)
    return facts_of_config_map(config_map["data"], uri=deployment.spec.model.uri, key=reference.key)


def _all_planned(name: str) -> list[tuple[VLLMDeployment, Plan]]:
    documents = _documents(name)
    inventory = read_inventory(document for nodes in NODES for document in _documents(nodes))
    deployments = [parse_deployment(document) for document in documents if document["kind"] == KIND]
    return [
        (each, plan(each.spec, _facts(each, documents), inventory, capabilities=ALL_THERE_IS)) for each in deployments
    ]


def _planned(name: str) -> tuple[VLLMDeployment, Plan]:
    (only,) = _all_planned(name)
    return only


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_gets_the_answer_that_it_is_there_to_show(name: str) -> None:
    planned = _all_planned(name)
    assert planned
    for _, plan_ in planned:
        assert (plan_.verdict, plan_.oom_risk) == ANSWERS.get(name, (Verdict.FITS, OomRisk.LOW)), plan_.message


def test_the_index_lists_every_sample_and_nothing_else() -> None:
    rows = re.findall(r"^\| (\[.*?) \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    listed = [name for row in rows for name, file in re.findall(r"\[([\w-]+)\]\(([\w-]+)\.yaml\)", row) if name == file]
    assert sorted(listed) == sorted([*SAMPLES, *NODES])


def test_the_auto_adjusted_sample_has_less_context_than_it_asks_for() -> None:
    deployment, planned = _planned("auto-adjust")
    assert deployment.spec.workload.context_length is not None
    assert planned.max_model_len is not None
    assert planned.max_model_len < deployment.spec.workload.context_length


def test_the_performance_modes_batch_differently() -> None:
    batches = {
        deployment.spec.workload.batching_mode: (plan_.max_num_seqs, plan_.max_num_batched_tokens)
        for deployment, plan_ in _all_planned("performance-modes")
    }
    assert len(set(batches.values())) == len(BatchingMode)


def test_the_70b_sample_is_spread_over_the_gpus_of_one_node() -> None:
    _, planned = _planned("llama-70b")
    assert planned.tensor_parallel_size > 1


def test_the_405b_sample_comes_with_a_fix() -> None:
    _, planned = _planned("llama-405b")
    assert planned.suggestions


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_that_fits_renders_to_valid_objects(name: str) -> None:
    for deployment, planned in _all_planned(name):
        if planned.verdict is not Verdict.FITS:
            continue
        for obj in render(planned, deployment, namespace="default", name=deployment.metadata.name):
            for known in known_to_kubernetes(obj):
                kubernetes_validate.validate(known, kubernetes_validate.latest_version(), strict=True)
