"""Weights of a whole model per GPU: the sum that planning and prediction use."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vllm_operator.models.bounded_memory import Recent
from vllm_operator.models.facts import FactsBasis
from vllm_operator.models.speculation import Drafter, drafter_of
from vllm_operator.models.weights.blueprints import blueprint
from vllm_operator.models.weights.drafts import draft_layers, second_model_bytes
from vllm_operator.models.weights.fields import section, text
from vllm_operator.models.weights.formats import ExpertPadding, bytes_per_weight
from vllm_operator.models.weights.modules import Experts, Vocabulary
from vllm_operator.models.weights.quantization import deepseek_v4_rules, quantization_rules
from vllm_operator.models.weights.ranks import (
    Ranks,
    alike_layers,
    bytes_per_stage,
    dtype_bytes,
    element_count,
    layer_bytes,
)
from vllm_operator.models.weights.tensors import tensor_bytes_per_stage

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from vllm_operator.models.facts import CheckpointFacts, Device, ModelFacts
    from vllm_operator.models.settings import ResolvedSettings
    from vllm_operator.models.weights.fields import Config
    from vllm_operator.models.weights.modules import Blueprint
    from vllm_operator.models.weights.rules import QuantizationRules


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightBytes:
    """Weights on one GPU, in bytes."""

    parameter_bytes: int
    """As vLLM allocates parameters, before any kernel repacks them."""
    loaded_bytes: int
    """As vLLM reports after loading: parameters, a draft's among them, and buffers (tables of rotary embeddings)."""
    basis: FactsBasis
    exact: bool
    """False when the family, the quantization method or the shapes are not known and the figure is an estimate."""


def weights_by_stage(
    facts: ModelFacts, resolved: ResolvedSettings, device: Device | None = None
) -> tuple[WeightBytes, ...]:
    """The weights on one GPU of each pipeline stage, first stage first.

    `device` matters for MXFP4 experts, which each kernel pads in its own way; a Hopper GPU is assumed without it.
    """
    ranks = Ranks(
        tensor=resolved.tensor_parallel_size,
        stages=resolved.stages,
        data=resolved.data_parallel_size,
        expert_parallel=resolved.enable_expert_parallel,
        shared_experts_whole=_deals_tokens_to_ranks(resolved),
        padding=allocated_padding(device),
    )
    if not facts.config:
        return _from_parameter_count(facts, resolved, ranks)
    checkpoint = facts.checkpoint
    weighing = _recent_weighing(facts)
    stages = _recent_bytes(facts, None, ranks, dtype=resolved.dtype)
    runtime = resolved.quantization if weighing.rules.method is None else None
    loading = weighing if runtime is None else _recent_weighing(facts, runtime)
    served = ranks if kernel_padding(device) == ranks.padding else replace(ranks, padding=kernel_padding(device))
    loaded = _recent_bytes(facts, runtime, served, dtype=resolved.dtype)
    basis = FactsBasis.CONFIG
    if checkpoint is not None and checkpoint.tensors and loading.exact:
        basis = checkpoint.basis
    elif checkpoint is not None and runtime is None and not weighing.exact:
        known = _from_checkpoint(facts, checkpoint, weighing, ranks, stages, dtype=resolved.dtype)
        if known is not None:
            stages = loaded = known
            basis = checkpoint.basis
    buffers = weighing.blueprint.buffer_bytes(dtype_bytes(resolved.dtype))
    weights = tuple(
        WeightBytes(
            parameter_bytes=stage,
            loaded_bytes=kept + buffers,
            basis=basis,
            exact=loading.exact and not _repacks_freely(loading, device),
        )
        for stage, kept in zip(stages, loaded, strict=True)
    )
    if resolved.speculative is None or drafter_of(resolved.speculative) is Drafter.NOTHING:
        return weights
    draft = loading.draft_bytes(facts, resolved.speculative, served, dtype=resolved.dtype)
    last = replace(weights[-1], loaded_bytes=weights[-1].loaded_bytes + draft, exact=False)
    return (*weights[:-1], last)


_WEIGHINGS: Recent[Weighing] = Recent(capacity=256)
"""Models as their configs describe them: the same for every way to divide one over GPUs."""


def _recent_weighing(facts: ModelFacts, runtime: str | None = None) -> Weighing:
    """The model's weighing, remembered; with `runtime`, quantized in that way while it is loaded."""
    return _WEIGHINGS.get(facts, runtime, lambda: _weighing(facts, runtime))


_BYTES: Recent[tuple[int, ...]] = Recent(capacity=4096)


def _recent_bytes(facts: ModelFacts, runtime: str | None, ranks: Ranks, *, dtype: str) -> tuple[int, ...]:
    """Bytes of each stage, remembered by what makes a difference to that model."""
    weighing = _recent_weighing(facts, runtime)
    if not weighing.has_experts:
        ranks = Ranks(tensor=ranks.tensor, stages=ranks.stages)
    key = runtime, ranks, dtype_bytes(dtype)
    return _BYTES.get(facts, key, lambda: weighing.bytes_per_stage(ranks, dtype=dtype))


def _weighing(facts: ModelFacts, runtime: str | None) -> Weighing:
    if runtime is not None:
        return replace(_recent_weighing(facts), rules=quantization_rules(None, runtime=runtime))
    has_lm_head = facts.checkpoint.has_lm_head if facts.checkpoint else None
    weighing = weigh(facts.config, hf_quant_config=facts.hf_quant_config, has_lm_head=has_lm_head)
    return weighing if facts.generates else weighing.without_head()


def what_weights_depend_on(resolved: ResolvedSettings, device: Device) -> Hashable:
    """Settings that are equal in this, on such a device, make `weights_by_stage` equal."""
    return (
        resolved.tensor_parallel_size,
        resolved.stages,
        resolved.data_parallel_size,
        resolved.enable_expert_parallel,
        _deals_tokens_to_ranks(resolved),
        dtype_bytes(resolved.dtype),
        resolved.quantization,
        _capability_major(device),
        repr(resolved.speculative) if resolved.speculative else None,
    )


_TOKENS_DEALT_SINCE = (0, 11, 0)
"""Pull request 24982."""


def _deals_tokens_to_ranks(resolved: ResolvedSettings) -> bool:
    """vllm/config/parallel.py `use_sequence_parallel_moe`."""
    together = resolved.tensor_parallel_size > 1 and resolved.data_parallel_size > 1
    return together and resolved.enable_expert_parallel and resolved.version.release >= _TOKENS_DEALT_SINCE


def _from_checkpoint(
    facts: ModelFacts,
    checkpoint: CheckpointFacts,
    weighing: Weighing,
    ranks: Ranks,
    stages: tuple[int, ...],
    *,
    dtype: str,
) -> tuple[int, ...] | None:
    """What the weight files say of a model whose family is not known; None when they say nothing."""
    if checkpoint.tensors:
        return tensor_bytes_per_stage(checkpoint.tensors, ranks, num_layers=facts.num_layers)
    whole = sum(weighing.bytes_per_stage(Ranks(), dtype=dtype))
    if checkpoint.total_bytes is None or not whole:
        return None
    # The files give the sum, the estimate from the config the shares.
    return tuple(stage * checkpoint.total_bytes // whole for stage in stages)


def parameters(facts: ModelFacts) -> int:
    """Number of parameters of the unquantized model."""
    if facts.parameters is not None or not facts.config:
        return facts.parameters or 0
    has_lm_head = facts.checkpoint.has_lm_head if facts.checkpoint else None
    return weigh(facts.config, has_lm_head=has_lm_head).parameter_count()


def allocated_padding(device: Device | None) -> ExpertPadding:
    """Multiples to which MXFP4 experts are rounded when they are allocated.

    Source: vLLM 0.33 fused_moe/oracle/mxfp4.py: Triton on Hopper and Blackwell, Marlin elsewhere.
    """
    return ExpertPadding() if _capability_major(device) in (9, 10) else ExpertPadding(hidden=256, intermediate=128)


def kernel_padding(device: Device | None) -> ExpertPadding:
    """Multiples to which the serving kernel rounds MXFP4 experts; on Blackwell that kernel is TensorRT-LLM's."""
    if _capability_major(device) == _BLACKWELL_MAJOR:
        return ExpertPadding(hidden=256, intermediate=256)
    return allocated_padding(device)


def _repacks_freely(weighing: Weighing, device: Device | None) -> bool:
    """Whether the kernel that packs the experts is a matter of version and environment: MXFP4 on Blackwell."""
    return (weighing.rules.method or "").endswith("mxfp4") and _capability_major(device) == _BLACKWELL_MAJOR


_BLACKWELL_MAJOR = 10
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
    return int(major) if major.isdecimal() else _major_by_product(device.product or "")


@functools.lru_cache(maxsize=256)
def _major_by_product(product: str) -> int:
    known = [major for name, major in _MAJOR_BY_PRODUCT if name in product.upper()]
    return known[-1] if known else 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """A model as its config describes it, ready to be divided over any number of GPUs."""

    blueprint: Blueprint
    rules: QuantizationRules
    alike: tuple[int, ...] = field(init=False, compare=False, repr=False)
    """As `alike_layers` says."""
    has_experts: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Ask the rules for the names of the layers once."""
        object.__setattr__(self, "alike", alike_layers(self.blueprint, self.rules))
        modules = (module for index in set(self.alike) for module in self.blueprint.layers[index])
        object.__setattr__(self, "has_experts", any(isinstance(module, Experts) for module in modules))

    @property
    def exact(self) -> bool:
        """Whether family and quantization method are both known."""
        return self.blueprint.exact and self.rules.known

    def bytes_per_stage(self, ranks: Ranks, *, dtype: str) -> tuple[int, ...]:
        """Parameter bytes that one rank of each pipeline stage allocates."""
        return bytes_per_stage(self.blueprint, self.rules, ranks, element_bytes=dtype_bytes(dtype), alike=self.alike)

    def draft_bytes(self, facts: ModelFacts, speculative: Mapping[str, object], ranks: Ranks, *, dtype: str) -> int:
        """Parameter bytes of what speculative decoding adds to a rank of the last stage."""
        drafter = drafter_of(speculative)
        if drafter is Drafter.MODEL:
            return second_model_bytes(speculative, dtype_bytes(dtype)) // ranks.tensor
        last = len(self.blueprint.layers) - 1
        layers = draft_layers(drafter, facts, self.blueprint)
        size = dtype_bytes(dtype)
        return sum(layer_bytes(layer, self.rules, ranks, element_bytes=size, index=last) for layer in layers)

    def without_head(self) -> Weighing:
        """The same as an embedding model: vLLM drops the output head (models/adapters.py)."""
        last = tuple(module for module in self.blueprint.last if not (isinstance(module, Vocabulary) and module.head))
        return replace(self, blueprint=replace(self.blueprint, last=last))

    def parameter_count(self) -> int:
        """Parameters of the unquantized model."""
        return element_count(self.blueprint)


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
    stated = _quantization(config, hf_quant_config)
    if stated is not None and config.get("model_type") == "deepseek_v4":
        rules = deepseek_v4_rules(stated, expert_dtype=text(config, "expert_dtype"))
    else:
        rules = quantization_rules(stated, runtime=runtime_quantization)
    return Weighing(blueprint=blueprint(config), rules=rules)


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


def _from_parameter_count(facts: ModelFacts, resolved: ResolvedSettings, ranks: Ranks) -> tuple[WeightBytes, ...]:
    each = bytes_per_weight(resolved.quantization, dtype_bytes(resolved.dtype))
    share = int((facts.parameters or 0) * each / (ranks.tensor * ranks.stages.count))
    one = WeightBytes(parameter_bytes=share, loaded_bytes=share, basis=FactsBasis.PARAMETER_COUNT, exact=False)
    return (one,) * ranks.stages.count
