"""What `plan` prints with observations: the whole answer, reviewed like code. UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.unit.planning.fleets import LLAMA_8B, facts, node, spec

from vllm_operator import __version__
from vllm_operator.api.observations import Observation, write_observations
from vllm_operator.cli import main
from vllm_operator.cluster.documents import read_inventory
from vllm_operator.planning.decide import plan
from vllm_operator.planning.observation_keys import key_of

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
QWEN_8B = "Qwen/Qwen3-8B"
WORKLOAD = {"contextLength": 8192, "concurrency": 4}
NODES = (node("L4", "l4-0", 1), node("H100", "h100-0", 1))
COLUMNS = "110"


def seen(model: str, share: float) -> Observation:
    """What pods reported that had that share of the predicted KV cache."""
    wanted = spec(model, workload=WORKLOAD)
    found = plan(wanted, facts(model), read_inventory(NODES))
    key = key_of(found, wanted)
    assert key is not None
    assert found.memory is not None
    predicted_tokens, predicted_bytes = found.memory.kv_cache_tokens, found.memory.kv_cache_bytes
    return Observation(
        key=key,
        kv_cache_tokens=int(predicted_tokens * share),
        most_kv_cache_tokens=int(predicted_tokens * share) + 160,
        kv_cache_bytes=int(predicted_bytes * share),
        predicted_kv_cache_tokens=predicted_tokens,
        predicted_kv_cache_bytes=predicted_bytes,
        predicted_by=__version__,
        observed_at="2026-11-01T10:00:00Z",
        source="team/model",
    )


CASES: dict[str, tuple[str, Callable[[], list[Observation]]]] = {
    "nothing-observed": (LLAMA_8B, list),
    "the-same-start": (LLAMA_8B, lambda: [seen(LLAMA_8B, 0.97)]),
    "the-same-start-with-too-little": (LLAMA_8B, lambda: [seen(LLAMA_8B, 0.05)]),
    "another-model-on-the-same-gpu": (QWEN_8B, lambda: [seen(LLAMA_8B, 0.9)]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_the_reviewed_one(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", COLUMNS)
    model, observations = CASES[name]
    answer = _printed(tmp_path, capsys, model, observations())
    path = HERE / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(answer, encoding="utf-8")
    assert answer == path.read_text(encoding="utf-8")


def test_no_answer_is_left_without_its_case() -> None:
    assert {path.stem for path in HERE.glob("*.txt")} == set(CASES)


def _printed(directory: Path, capsys: pytest.CaptureFixture[str], model: str, observations: list[Observation]) -> str:
    resource: dict[str, Any] = {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMDeployment",
        "metadata": {"name": "model", "namespace": "team"},
        "spec": {"model": {"uri": model}, "workload": WORKLOAD},
    }
    documents = directory / "model.yaml"
    documents.write_text(yaml.safe_dump_all([resource, *NODES]))
    exported = directory / "observations.json"
    exported.write_text(write_observations(observations))
    assert main(["plan", "-f", str(documents), "--observations", str(exported)]) == 0
    return capsys.readouterr().out
