"""Every figure that vLLM's own model classes gave for a config, GPU and parallel layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vllm_operator.models.facts import Device
from vllm_operator.models.stages import Stages
from vllm_operator.models.weights import weigh
from vllm_operator.models.weights.ranks import Ranks
from vllm_operator.models.weights.totals import allocated_padding

# One model a line: its config and rows of [GPU, TP, PP, dtype, bytes on one rank of each stage], as vLLM 0.33.0
# allocates parameters (computed by its own classes on simulated GPUs).
_REFERENCE = Path(__file__).parents[2] / "data" / "weights" / "reference.jsonl"
# Families that the reference does not have: the parameter counts that their publishers state, and the fields of their
# configs that shape them.
_PUBLISHED = _REFERENCE.with_name("published.jsonl")
_TOLERANCE = 0.001


def _models(path: Path = _REFERENCE) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("entry", _models(_PUBLISHED), ids=lambda entry: str(entry["model"]))
def test_other_families_have_their_published_size(entry: dict[str, Any]) -> None:
    weighing = weigh(entry["config"])
    assert weighing.parameter_count() == pytest.approx(entry["parameters"], rel=_TOLERANCE)
    assert weighing.exact


@pytest.mark.parametrize("entry", _models(), ids=lambda entry: str(entry["model"]))
def test_parameter_bytes_are_those_of_vllm(entry: dict[str, Any]) -> None:
    weighing = weigh(
        entry["config"], hf_quant_config=entry.get("hf_quant_config"), has_lm_head=entry.get("has_lm_head")
    )
    for gpu, tensor, pipeline, dtype, expected in entry["rows"]:
        padding = allocated_padding(Device(product=gpu, memory_bytes=80 << 30))
        ranks = Ranks(tensor=tensor, stages=Stages(count=pipeline), padding=padding)
        got = weighing.bytes_per_stage(ranks, dtype=dtype)
        assert got[: len(expected)] == pytest.approx(expected, rel=_TOLERANCE), (gpu, tensor, pipeline)


@pytest.mark.parametrize("entry", _models(), ids=lambda entry: str(entry["model"]))
def test_families_of_the_reference_are_known(entry: dict[str, Any]) -> None:
    assert weigh(entry["config"], hf_quant_config=entry.get("hf_quant_config")).exact


def test_most_of_the_reference_is_met_to_the_byte() -> None:
    equal = total = 0
    for entry in _models():
        weighing = weigh(
            entry["config"], hf_quant_config=entry.get("hf_quant_config"), has_lm_head=entry.get("has_lm_head")
        )
        for gpu, tensor, pipeline, dtype, expected in entry["rows"]:
            padding = allocated_padding(Device(product=gpu, memory_bytes=80 << 30))
            got = weighing.bytes_per_stage(
                Ranks(tensor=tensor, stages=Stages(count=pipeline), padding=padding), dtype=dtype
            )
            equal += list(got[: len(expected)]) == expected
            total += 1
    assert equal / total > 0.75
