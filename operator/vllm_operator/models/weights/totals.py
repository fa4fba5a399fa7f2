"""Weights of a whole model per GPU: the sum that planning and prediction use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.models.facts import FactsBasis
from vllm_operator.models.weights.blueprints import blueprint
from vllm_operator.models.weights.fields import section
from vllm_operator.models.weights.formats import ExpertPadding, bytes_per_weight
from vllm_operator.models.weights.quantization import UNQUANTIZED, quantization_rules
from vllm_operator.models.weights.ranks import Ranks, bytes_per_stage, dtype_bytes
from vllm_operator.models.weights.tensors import tensor_bytes_per_stage

if TYPE_CHECKING:
    from vllm_operator.models.facts import CheckpointFacts, Device, ModelFacts
    from vllm_operator.models.settings import ResolvedSettings
    from vllm_operator.models.weights.fields import Config
    from vllm_operator.models.weights.modules import Blueprint
    from vllm_operator.models.weights.quantization import QuantizationRules


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightBytes:
    """Weights on the fullest GPU of a replica, in bytes."""

    parameter_bytes: int
    """As vLLM allocates parameters, before any kernel repacks them."""
    loaded_bytes: int
    """As vLLM reports after loading: parameters and the buffers beside them (tables of rotary embeddings)."""
    basis: FactsBasis
    exact: bool
    """False when the family, the quantization method or the shapes are not known and the figure is an estimate."""


def weights_per_gpu(facts: ModelFacts, resolved: ResolvedSettings, device: Device | None = None) -> WeightBytes:
    """The weights on the fullest GPU of a replica.

    `device` matters for MXFP4 experts, which each kernel pads in its own way; a Hopper GPU is assumed without it.
    """
    stages = weights_by_stage(facts, resolved, device)
    return max(stages, key=lambda stage: stage.loaded_bytes)


def weights_by_stage(
    facts: ModelFacts, resolved: ResolvedSettings, device: Device | None = None
) -> tuple[WeightBytes, ...]:
    """The weights on one GPU of each pipeline stage, first stage first."""
    ranks = Ranks(
        tensor=resolved.tensor_parallel_size,
        pipeline=resolved.pipeline_parallel_size,
        data=resolved.data_parallel_size,
        expert_parallel=resolved.enable_expert_parallel,
        padding=expert_padding(device),
    )
    if not facts.config:
        return _from_parameter_count(facts, resolved, ranks)
    runtime = resolved.quantization if facts.quantization is None else None
    weighing = weigh(
        facts.config,
        hf_quant_config=facts.hf_quant_config,
        has_lm_head=facts.checkpoint.has_lm_head if facts.checkpoint else None,
        runtime_quantization=runtime,
    )
    stages = weighing.bytes_per_stage(ranks, dtype=resolved.dtype)
    basis, exact = FactsBasis.CONFIG, weighing.exact
    checkpoint = facts.checkpoint
    if not exact and checkpoint is not None and runtime is None:
        if checkpoint.tensors:
            stages = tensor_bytes_per_stage(checkpoint.tensors, ranks, num_layers=facts.num_layers)
            basis = checkpoint.basis
        elif checkpoint.total_bytes is not None:
            stages = _scaled(stages, weighing, checkpoint, dtype=resolved.dtype)
            basis = FactsBasis.CHECKPOINT_SIZE
    elif exact and checkpoint is not None and checkpoint.tensors:
        basis = checkpoint.basis
    buffers = weighing.blueprint.buffer_bytes(dtype_bytes(resolved.dtype))
    return tuple(
        WeightBytes(parameter_bytes=stage, loaded_bytes=stage + buffers, basis=basis, exact=exact)
        for stage in stages
    )


def parameters(facts: ModelFacts) -> int:
    """Number of parameters of the unquantized model."""
    if facts.parameters is not None or not facts.config:
        return facts.parameters or 0
    has_lm_head = facts.checkpoint.has_lm_head if facts.checkpoint else None
    return weigh(facts.config, has_lm_head=has_lm_head).parameter_count()


def expert_padding(device: Device | None) -> ExpertPadding:
    """Multiples to which a GPU's MXFP4 kernel rounds experts.

    Source: vLLM 0.33 fused_moe/oracle/mxfp4.py: Triton on Hopper, TensorRT-LLM on Blackwell, Marlin elsewhere.
    """
    major = _capability_major(device)
    if major == 9:
        return ExpertPadding()
    return ExpertPadding(hidden=256, intermediate=256 if major == 10 else 128)


_HOPPER_MAJOR = 9
_MAJOR_BY_PRODUCT = (
    ("H100", 9),
    ("H200", 9),
    ("H800", 9),
    ("H20", 9),
    ("GH200", 9),
    ("B100", 10),
    ("B200", 10),
    ("B300", 10),
    ("GB200", 10),
    ("GB300", 10),
)


def _capability_major(device: Device | None) -> int:
    if device is None:
        return _HOPPER_MAJOR
    major = (device.compute_capability or "").partition(".")[0]
    if major.isdecimal():
        return int(major)
    product = (device.product or "").upper()
    known = [major for name, major in _MAJOR_BY_PRODUCT if name in product]
    return known[-1] if known else 8


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
    """Reads a raw config. `has_lm_head` is what the checkpoint says where the config leaves tying open."""
    if has_lm_head and not _says_tied(config):
        config = _untied(config)
    return Weighing(
        blueprint=blueprint(config),
        rules=quantization_rules(_quantization(config, hf_quant_config), runtime=runtime_quantization),
    )


_LANGUAGE_SECTIONS = ("text_config", "llm_config", "language_config")


def _says_tied(config: Config) -> bool:
    """Whether the config ties the head in words: some checkpoints repeat a tied head, which vLLM then skips."""
    inner = section(config, *_LANGUAGE_SECTIONS)
    return inner.get("tie_word_embeddings", config.get("tie_word_embeddings")) is True


def _untied(config: Config) -> Config:
    changed = {**config, "tie_word_embeddings": False}
    for name in _LANGUAGE_SECTIONS:
        inner = section(config, name)
        if inner:
            changed[name] = {**inner, "tie_word_embeddings": False}
    return changed


def _quantization(config: Config, hf_quant_config: Config | None) -> Config | None:
    for holder in (config, section(config, *_LANGUAGE_SECTIONS)):
        for name in ("quantization_config", "compression_config"):
            if section(holder, name):
                return section(holder, name)
    return hf_quant_config


def _scaled(
    stages: tuple[int, ...], weighing: Weighing, checkpoint: CheckpointFacts, *, dtype: str
) -> tuple[int, ...]:
    """The file size, divided as the estimate from the config divides: shares are surer than the sum."""
    whole = sum(weighing.bytes_per_stage(Ranks(), dtype=dtype))
    total = checkpoint.total_bytes or 0
    return tuple(stage * total // whole for stage in stages) if whole else stages


def _from_parameter_count(facts: ModelFacts, resolved: ResolvedSettings, ranks: Ranks) -> tuple[WeightBytes, ...]:
    each = bytes_per_weight(resolved.quantization, dtype_bytes(resolved.dtype))
    share = int((facts.parameters or 0) * each / (ranks.tensor * ranks.pipeline))
    one = WeightBytes(
        parameter_bytes=share, loaded_bytes=share, basis=FactsBasis.PARAMETER_COUNT, exact=False
    )
    return (one,) * ranks.pipeline
