"""The bundled facts of much-used models."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vllm_operator.models import catalogue
from vllm_operator.models.weights import weigh

_SCRIPT = Path(__file__).parents[3] / "scripts" / "make_catalogue.py"


@pytest.mark.parametrize("model_id", catalogue.model_ids())
def test_every_entry_is_a_model_of_a_known_family(model_id: str) -> None:
    facts = catalogue.lookup(model_id)
    assert facts is not None
    assert facts.source is not None
    assert facts.source.uri == model_id
    assert facts.source.revision is None or re.fullmatch(r"[0-9a-f]{40}", facts.source.revision)
    assert weigh(facts.config).exact


@pytest.mark.parametrize(
    ("model_id", "layers", "kv_heads"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 32, 8),
        ("meta-llama/Llama-3.3-70B-Instruct", 80, 8),
        ("meta-llama/Llama-3.1-405B-Instruct", 126, 8),
    ],
)
def test_the_models_of_the_samples_are_there_with_their_commit(model_id: str, layers: int, kv_heads: int) -> None:
    facts = catalogue.lookup(model_id)
    assert facts is not None
    assert (facts.num_layers, facts.num_kv_heads) == (layers, kv_heads)
    assert facts.source is not None
    assert facts.source.revision is not None


@pytest.mark.parametrize(
    "uri",
    [
        "meta-llama/Llama-3.1-8B-Instruct",
        "hf://meta-llama/Llama-3.1-8B-Instruct",
        "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct",
    ],
)
def test_a_model_is_found_by_each_form_of_its_id(uri: str) -> None:
    assert catalogue.lookup(uri) is catalogue.lookup("meta-llama/Llama-3.1-8B-Instruct")


@pytest.mark.parametrize("uri", ["", "org/unknown", "pvc://claim/meta-llama/Llama-3.1-8B-Instruct"])
def test_anything_else_is_not_in_the_catalogue(uri: str) -> None:
    assert catalogue.lookup(uri) is None


def test_the_file_is_what_the_script_makes_of_the_configs() -> None:
    subprocess.run([sys.executable, str(_SCRIPT), "--check"], check=True, timeout=60)
