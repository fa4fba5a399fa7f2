"""What was read of a model's directory, wherever it lies, and the facts that follow from it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vllm_operator.models.errors import ModelConfigError, ModelUnreadable
from vllm_operator.models.parse import parse_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.models.facts import CheckpointFacts, ModelFacts, ModelSource

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
QUANTIZATION = "hf_quant_config.json"
SENTENCE_MODULES = "modules.json"
LM_HEAD_MARKER = "HAS_LM_HEAD"
"""An empty file of that name beside a config says that the checkpoint ships an output head of its own."""

MAX_CONFIG_BYTES = 10_000_000
MAX_INDEX_BYTES = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """The parsed files of one model."""

    config: Mapping[str, Any]
    source: ModelSource
    hf_quant_config: Mapping[str, Any] | None = None
    checkpoint: CheckpointFacts | None = None
    embeds: bool = False
    """Whether the directory holds the modules of Sentence Transformers: vLLM then serves embeddings by default."""

    def facts(self) -> ModelFacts:
        """The model's facts. Raises `ModelUnreadable` when the config is not one of a model."""
        try:
            facts = parse_model(
                self.config,
                checkpoint=self.checkpoint,
                hf_quant_config=self.hf_quant_config,
                source=self.source,
            )
        except ModelConfigError as error:
            raise ModelUnreadable(f"{self.source.uri}: {CONFIG} cannot be planned with: {error}") from error
        return replace(facts, generates=False) if self.embeds else facts


def parse_object(content: bytes | str, *, name: str, uri: str) -> dict[str, Any]:
    """One JSON file that must hold an object."""
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelUnreadable(f"{uri}: {name} is not valid JSON ({_brief(error)}); repair the file") from error
    if not isinstance(parsed, dict):
        raise ModelUnreadable(f"{uri}: {name} holds a {type(parsed).__name__}, not an object; repair the file")
    return parsed


def _brief(error: Exception) -> str:
    return str(error)[:200]
