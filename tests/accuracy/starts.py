"""The measured starts in `tests/data/measured`: what was asked of vLLM, what it reported, and who published it."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_operator.models.devices import Devices, devices_of
from vllm_operator.models.facts import CheckpointFacts, ModelFacts
from vllm_operator.models.kv import KvLayout, kv_layout
from vllm_operator.models.memory import MemoryPrediction, predict_memory
from vllm_operator.models.parse import parse_model
from vllm_operator.models.run_row import RunRow, engine_settings
from vllm_operator.models.settings import ResolvedSettings, resolve_settings
from vllm_operator.models.weights import WeightBytes, weights_by_stage

if TYPE_CHECKING:
    from vllm_operator.models.memory.constants import MemoryConstants

DATA = Path(__file__).parents[1] / "data" / "measured"
GIB = 1024**3

UNSTATED_INPUT = {
    "a100-40-llama3-8b-v066": "2,048 sequences, which its source does not state",
}
"""Starts whose outcome hangs on a setting that the question does not carry, and which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One measured start, ready to be predicted. Figures in GiB as vLLM printed them, None where it did not."""

    id: str
    source: str
    family: str
    judged: frozenset[str]
    started: bool
    row: RunRow
    facts: ModelFacts
    devices: Devices | None
    resolved: ResolvedSettings | None
    weights: tuple[WeightBytes, ...] | None
    """Of each pipeline stage."""
    layout: KvLayout | None
    measured: dict[str, float]

    @property
    def version(self) -> tuple[int, int, int] | None:
        """Release that ran."""
        return self.resolved.version.release if self.resolved else None


@functools.lru_cache(maxsize=1)
def starts() -> tuple[Start, ...]:
    """Every start whose model's config is public."""
    return _read("starts.jsonl", "configs.json")


CHOSEN_ON_LATER_STARTS_SINCE = (0, 26, 0)
"""From here on a few coefficients were chosen after later starts had been seen: those are out of sample no longer."""


@functools.lru_cache(maxsize=1)
def later_starts() -> tuple[Start, ...]:
    """Starts found when the coefficients were already there: the fit never sees them."""
    return _read("later_starts.jsonl", "later_configs.json")


def untouched_later_starts() -> tuple[Start, ...]:
    """Those of versions whose coefficients were not changed after they were found."""
    return tuple(start for start in later_starts() if (start.version or ()) < CHOSEN_ON_LATER_STARTS_SINCE)


def _read(records: str, models: str) -> tuple[Start, ...]:
    configs = json.loads((DATA / models).read_text(encoding="utf-8"))
    lines = (DATA / records).read_text(encoding="utf-8").splitlines()
    return tuple(_start(json.loads(line), configs) for line in lines)


def _start(record: dict[str, Any], configs: dict[str, Any]) -> Start:
    config = configs[record["config"]]
    row = RunRow.model_validate({"id": record["id"], **record["given"]})
    size = CheckpointFacts(total_bytes=row.checkpoint_bytes) if row.checkpoint_bytes else None
    facts = parse_model(config, checkpoint=size)
    settings = engine_settings(row)
    devices = devices_of(row, tensor=settings.tensor_parallel_size, pipeline=settings.pipeline_parallel_size)
    resolved = resolve_settings(facts, settings, devices.smallest) if devices else None
    return Start(
        id=record["id"],
        source=record["source"].split(" :: ")[0].split(" (")[0],
        family=facts.model_type,
        judged=frozenset(record["judged"]),
        started=record["started"],
        row=row,
        facts=facts,
        devices=devices,
        resolved=resolved,
        weights=weights_by_stage(facts, resolved, devices.smallest) if devices and resolved else None,
        layout=kv_layout(facts, resolved) if resolved else None,
        measured=record["measured"],
    )


def predicted(start: Start, constants: MemoryConstants | None = None) -> MemoryPrediction | None:
    """The prediction of a start, with the version's row of the table or another; None where its GPU is not known."""
    if start.resolved is None or start.devices is None:
        return None
    return predict_memory(
        start.facts,
        start.resolved,
        start.devices.smallest,
        weights=start.weights,
        layout=start.layout,
        constants=constants,
        stage_devices=start.devices.of_stages,
    )
