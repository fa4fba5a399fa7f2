"""What one GPU of one pipeline stage gives up before the KV cache is sized: the terms, put together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vllm_operator.models.gpu_generation import HOPPER, capability_of
from vllm_operator.models.memory import constants as table
from vllm_operator.models.memory.encoders import takes_any_size
from vllm_operator.models.memory.flag_figures import flag_number
from vllm_operator.models.memory.graphs import graph_sizes
from vllm_operator.models.memory.links import link_of
from vllm_operator.models.memory.runner import constants_of_runner
from vllm_operator.models.memory.terms import (
    activation_bytes,
    graph_bytes,
    link_gib,
    lora_bytes,
    non_torch_bytes,
)
from vllm_operator.models.memory.widths import batch_of, expert_ranks, mxfp4_expert_bytes, pools, recent_widths
from vllm_operator.models.parse import language_config
from vllm_operator.models.speculation import Drafter, drafter_of
from vllm_operator.models.versions import GIB

if TYPE_CHECKING:
    from vllm_operator.models.facts import Device, ModelFacts
    from vllm_operator.models.memory.terms import Batch, Widths
    from vllm_operator.models.settings import ResolvedSettings
    from vllm_operator.models.weights import WeightBytes

DEFAULT_MAX_LORAS = 1
DEFAULT_MAX_LORA_RANK = 16
"""vllm/config/lora.py@0.33."""
_LORA_RANKS = ("max_lora_rank", "max_rank", "rank")
LORA_ON_EXPERTS_SINCE = (0, 11, 1)
"""Pull request 21229 (`FusedMoEWithLoRA`): until then adapters left the experts alone."""
GRAPHS_PER_LORA_STATE = 2
LORA_GRAPHS_SINCE = (0, 11, 1)
"""Graphs are captured with and without adapters (`cudagraph_specialize_lora`), at twice the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMemory:
    """One GPU of a stage, in bytes as vLLM would count them."""

    device: Device
    weights: int
    activation: int
    lean_gain: int
    """What a leaner sampler would leave more."""
    graphs: int
    """As captured, charged or not."""
    graphs_charged: int
    non_torch: int
    lora: int
    link_doubt_gib: float
    encodes_media: bool
    any_image_size: bool

    def requested(self, utilization: float) -> int:
        """The budget: device memory x utilization."""
        return math.ceil(self.device.memory_bytes * utilization)

    def left(self, utilization: float) -> int:
        """What is left of the budget for the KV cache; below nothing when it is not enough."""
        taken = self.weights + self.activation + self.non_torch + self.graphs_charged + self.lora
        return self.requested(utilization) - taken


def memory_by_stage(
    facts: ModelFacts,
    resolved: ResolvedSettings,
    device: Device,
    weights: tuple[WeightBytes, ...],
    constants: table.MemoryConstants,
    *,
    stage_devices: tuple[Device, ...] = (),
) -> tuple[StageMemory, ...]:
    """The bytes on one GPU of each pipeline stage; `stage_devices` are their cards where these differ."""
    if len(weights) == 1:
        return (stage_memory(facts, resolved, stage_devices[0] if stage_devices else device, weights[0], constants),)
    cards = stage_devices or (device,) * len(weights)
    return tuple(
        stage_memory(facts, resolved, card, of_stage, constants, stage=stage)
        for stage, (card, of_stage) in enumerate(zip(cards, weights, strict=True))
    )


def stage_memory(
    facts: ModelFacts,
    resolved: ResolvedSettings,
    device: Device,
    weights: WeightBytes,
    constants: table.MemoryConstants,
    *,
    stage: int = 0,
) -> StageMemory:
    """The bytes on one GPU of that stage (0 is the first; without a pipeline it is the only one)."""
    constants = constants_of_runner(constants, facts, resolved)
    widths = recent_widths(facts, resolved)
    batch = batch_of(facts, resolved, device)
    if resolved.stages.count > 1:
        widths, batch = _of_stage(widths, batch, resolved, stage)
    activation = activation_bytes(widths, batch, constants)
    lean = activation
    if constants.sampler_bytes_per_logit_lean != constants.sampler_bytes_per_logit:
        lean = activation_bytes(widths, batch, constants, bytes_per_logit=constants.sampler_bytes_per_logit_lean)
    if drafter_of(resolved.speculative) is not Drafter.NOTHING:
        activation += table.DRAFT_LAYER_ACTIVATION_SHARE * activation
    graphs = graph_bytes(widths, sizes=graph_sizes(facts, resolved, device))
    if resolved.lora is not None and resolved.version.release >= LORA_GRAPHS_SINCE:
        graphs *= GRAPHS_PER_LORA_STATE
    link, ranks = link_of(device.product), expert_ranks(facts, resolved)
    non_torch = non_torch_bytes(constants, ranks=ranks, pipeline_parallel=resolved.pipeline_parallel_size, link=link)
    return StageMemory(
        device=device,
        weights=_resident_weights(facts, weights, resolved, device, widths),
        activation=int(activation),
        lean_gain=int(max(0.0, activation - lean)),
        graphs=int(graphs),
        graphs_charged=int(graphs * constants.graphs_inside_budget),
        non_torch=int(non_torch),
        lora=int(_lora_bytes(widths, resolved)),
        link_doubt_gib=link_gib(constants, ranks=ranks, link=link)[1] if ranks > 1 else 0.0,
        encodes_media=widths.encoder is not None,
        any_image_size=widths.encoder is not None and takes_any_size(facts),
    )


def _of_stage(widths: Widths, batch: Batch, resolved: ResolvedSettings, stage: int) -> tuple[Widths, Batch]:
    """The stage's share: its own layers; media are encoded on the first stage, logits made on the last."""
    encoder = widths.encoder if stage == 0 else None
    widths = replace(widths, layers=resolved.stages.layers(widths.layers)[stage], encoder=encoder)
    return widths, replace(batch, samples=batch.samples and stage == resolved.stages.count - 1)


def _resident_weights(
    facts: ModelFacts, weights: WeightBytes, resolved: ResolvedSettings, device: Device, widths: Widths
) -> int:
    """Weights on the GPU: MXFP4 repacked, without a pooling model's head and what `--cpu-offload-gb` moves to the host.

    Only layers are offloaded; embedding and head stay (vllm/model_executor/models/utils.py `maybe_offload_to_cpu`).
    """
    loaded = weights.loaded_bytes
    if capability_of(device)[0] == HOPPER[0]:
        shared = resolved.tensor_parallel_size > 1
        padding = table.MXFP4_REPACKED_SHARED if shared else table.MXFP4_REPACKED_ALONE
        loaded += int(padding * mxfp4_expert_bytes(facts, resolved, layers=widths.layers))
    offloaded = int(flag_number(resolved.flags.get("cpu_offload_gb")) * GIB)
    if not offloaded and not pools(resolved):
        return loaded
    tied = language_config(facts.config).get("tie_word_embeddings")
    head = widths.vocabulary * widths.hidden * widths.element_bytes // resolved.tensor_parallel_size
    if tied is False and facts.generates and pools(resolved):
        loaded -= head
    if offloaded:
        loaded = max(min(loaded, head * (1 if tied else 2)), loaded - offloaded)
    return loaded


def _lora_bytes(widths: Widths, resolved: ResolvedSettings) -> float:
    if resolved.lora is None:
        return 0.0
    adapters = int(flag_number(resolved.lora.get("max_loras"))) or DEFAULT_MAX_LORAS
    stated = next((resolved.lora[name] for name in _LORA_RANKS if name in resolved.lora), None)
    rank = int(flag_number(stated)) or DEFAULT_MAX_LORA_RANK
    on_experts = resolved.version.release >= LORA_ON_EXPERTS_SINCE
    return lora_bytes(widths, adapters=adapters, rank=rank, on_experts=on_experts)
