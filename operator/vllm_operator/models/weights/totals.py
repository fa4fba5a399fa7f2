"""Weights of a whole model per GPU: the sum that planning and prediction use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.models.facts import FactsBasis
from vllm_operator.models.weights.blueprints import blueprint
from vllm_operator.models.weights.fields import flag, section
from vllm_operator.models.weights.quantization import UNQUANTIZED, quantization_rules
from vllm_operator.models.weights.ranks import Ranks, bytes_per_stage, dtype_bytes

if TYPE_CHECKING:
    from vllm_operator.models.weights.fields import Config
    from vllm_operator.models.weights.modules import Blueprint
    from vllm_operator.models.weights.quantization import QuantizationRules


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightBytes:
    """Weights on the fullest GPU of a replica."""

    parameter_bytes: int
    loaded_bytes: int
    """As vLLM reports after loading: parameters and the buffers beside them."""
    basis: FactsBasis
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """A model as its config describes it, ready to be divided over any number of GPUs."""

    blueprint: Blueprint
    rules: QuantizationRules

    @property
    def exact(self) -> bool:
        """Whether family and quantization method are both known."""
        return self.blueprint.exact and self.rules.known

    def bytes_per_stage(self, ranks: Ranks, *, dtype: str) -> tuple[int, ...]:
        """Parameter bytes that one rank of each pipeline stage allocates."""
        return bytes_per_stage(self.blueprint, self.rules, ranks, element_bytes=dtype_bytes(dtype))

    def parameter_count(self) -> int:
        """Parameters of the unquantized model."""
        plain = bytes_per_stage(self.blueprint, UNQUANTIZED, Ranks(), element_bytes=2)
        return sum(plain) // 2


def weigh(
    config: Config,
    *,
    hf_quant_config: Config | None = None,
    has_lm_head: bool | None = None,
    runtime_quantization: str | None = None,
) -> Weighing:
    """Reads a raw config. `has_lm_head` is what the checkpoint says, and wins over `tie_word_embeddings`."""
    if has_lm_head is not None:
        config = _with_head(config, has_lm_head)
    return Weighing(
        blueprint=blueprint(config),
        rules=quantization_rules(_quantization(config, hf_quant_config), runtime=runtime_quantization),
    )


def _with_head(config: Config, has_lm_head: bool) -> Config:
    changed = {**config, "tie_word_embeddings": not has_lm_head}
    for name in ("text_config", "llm_config", "language_config"):
        inner = section(config, name)
        if inner:
            changed[name] = {**inner, "tie_word_embeddings": not has_lm_head}
    return changed


def _quantization(config: Config, hf_quant_config: Config | None) -> Config | None:
    own = section(config, "quantization_config") or section(
        section(config, "text_config"), "quantization_config"
    )
    compression = section(config, "compression_config")
    return own or compression or hf_quant_config


__all__ = ["Weighing", "WeightBytes", "flag", "weigh"]
