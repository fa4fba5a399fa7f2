"""What vLLM would report on start, per GPU: the terms put together, with an interval and the failure, if any."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.models.grouping import SpecKind
from vllm_operator.models.memory import constants as table
from vllm_operator.models.memory.environment import constants_as_set
from vllm_operator.models.memory.failure import Failure, StartFailure, StartFigures, first_failure
from vllm_operator.models.memory.interval import Doubts, interval_bytes
from vllm_operator.models.memory.terms import (
    Link,
    activation_bytes,
    captured_sizes,
    graph_bytes,
    link_gib,
    lora_bytes,
    non_torch_bytes,
)
from vllm_operator.models.memory.widths import batch_of, expert_ranks, mxfp4_expert_bytes, pools, recent_widths
from vllm_operator.models.parse import language_config
from vllm_operator.models.recent import recent_layout, recent_weights
from vllm_operator.models.validity import parallelism_problems
from vllm_operator.models.versions import GIB, NEWEST_KNOWN
from vllm_operator.models.visible_memory import visible_memory

if TYPE_CHECKING:
    from vllm_operator.models.facts import Device, FactsBasis, ModelFacts
    from vllm_operator.models.kv import KvCapacity, KvLayout
    from vllm_operator.models.memory.terms import Widths
    from vllm_operator.models.settings import ResolvedSettings
    from vllm_operator.models.weights import WeightBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPrediction:
    """One start on one GPU of the group, in bytes as vLLM would report them; no safety margin in it."""

    weights_bytes: int
    activation_bytes: int
    cuda_graph_bytes: int
    """As captured; inside the budget or not by version (`graphs_charged_bytes`)."""
    graphs_charged_bytes: int
    """Part of the graphs that is subtracted before the KV cache is sized."""
    non_torch_bytes: int
    lora_bytes: int
    """Slots for adapters, allocated after the weights are reported."""
    kv_cache_bytes: int
    """What is left for the KV cache, never below nothing."""
    kv_cache_bytes_interval: tuple[int, int]
    """80 %: one start in five lies outside."""
    requested_bytes: int
    """The budget: device memory x utilization."""
    starts: bool
    failure: StartFailure | None
    notes: tuple[str, ...]
    basis: FactsBasis
    capacity: KvCapacity | None
    """What the KV cache holds; None for models without one or when nothing is left."""
    weights: WeightBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    activation: int
    lean_gain: int
    graphs: int
    graphs_charged: int
    non_torch: int
    lora: int
    link_doubt_gib: float
    encodes_media: bool
    any_image_size: bool


def predict_memory(
    facts: ModelFacts,
    resolved: ResolvedSettings,
    device: Device,
    *,
    weights: WeightBytes | None = None,
    layout: KvLayout | None = None,
    constants: table.MemoryConstants | None = None,
    problems: tuple[str, ...] | None = None,
    gpu_memory_utilization: float | None = None,
) -> MemoryPrediction:
    """Predicts a start.

    `weights`, `layout` and the `problems` of the parallelism are recomputed unless the caller has them from the same
    settings. `constants` stands in for the version's row of the table: a fit passes its own. A
    `gpu_memory_utilization` stands in for that of the settings, on which nothing else depends.

    Available KV memory = ceil(device x utilization) - weights - non-torch - activation peak - charged graphs, as
    vllm/v1/worker/gpu_worker.py `determine_available_memory` has it. Never raises for settings that vLLM refuses: they
    come back as `StartFailure.INVALID`.
    """
    constants = constants_as_set(constants or table.constants_for(resolved.version), resolved)
    weights = weights or recent_weights(facts, resolved, device)
    layout = layout or recent_layout(facts, resolved)
    widths = recent_widths(facts, resolved)
    terms = _terms(facts, widths, resolved, device, constants)
    requested = math.ceil(device.memory_bytes * (gpu_memory_utilization or resolved.gpu_memory_utilization))
    loaded = _resident_weights(facts, weights, resolved, device, widths)
    fixed = _stated_cache_bytes(resolved, layout)
    left = requested - loaded - terms.activation - terms.non_torch - terms.graphs_charged - terms.lora
    available = left if fixed is None else fixed
    capacity = layout.capacity(max(0, available), resolved.max_model_len) if available > 0 else None
    if problems is None:
        problems = parallelism_problems(facts, resolved)
    if problems:
        failure: Failure | None = Failure(kind=StartFailure.INVALID, message="; ".join(problems))
    else:
        figures = _figures(
            resolved, device, terms, capacity, layout, requested=requested, loaded=loaded, left=available
        )
        failure = first_failure(figures)
    doubts = _doubts(facts, resolved, device, terms, weights, requested=requested)
    interval = (available, available) if fixed is not None else interval_bytes(available, doubts, constants)
    return MemoryPrediction(
        weights_bytes=loaded,
        activation_bytes=terms.activation,
        cuda_graph_bytes=terms.graphs,
        graphs_charged_bytes=terms.graphs_charged,
        non_torch_bytes=terms.non_torch,
        lora_bytes=terms.lora,
        kv_cache_bytes=max(0, available),
        kv_cache_bytes_interval=interval,
        requested_bytes=requested,
        starts=failure is None,
        failure=failure.kind if failure else None,
        notes=_notes(resolved, doubts, failure),
        basis=weights.basis,
        capacity=capacity,
        weights=weights,
    )


def _terms(
    facts: ModelFacts, widths: Widths, resolved: ResolvedSettings, device: Device, constants: table.MemoryConstants
) -> _Terms:
    batch = batch_of(facts, resolved, device)
    activation = activation_bytes(widths, batch, constants)
    lean = activation
    if constants.sampler_bytes_per_logit_lean != constants.sampler_bytes_per_logit:
        lean = activation_bytes(widths, batch, constants, bytes_per_logit=constants.sampler_bytes_per_logit_lean)
    if resolved.speculative:
        activation += table.DRAFT_LAYER_ACTIVATION_SHARE * activation
    largest = min(2 * resolved.max_num_seqs, 512)
    graphs = 0.0 if resolved.enforce_eager else graph_bytes(widths, sizes=captured_sizes(largest))
    link, ranks = link_of(device.product), expert_ranks(facts, resolved)
    non_torch = non_torch_bytes(constants, ranks=ranks, pipeline_parallel=resolved.pipeline_parallel_size, link=link)
    return _Terms(
        activation=int(activation),
        lean_gain=int(max(0.0, activation - lean)),
        graphs=int(graphs),
        graphs_charged=int(graphs * constants.graphs_inside_budget),
        non_torch=int(non_torch),
        lora=int(_lora_bytes(widths, resolved)),
        link_doubt_gib=link_gib(constants, ranks=ranks, link=link)[1] if ranks > 1 else 0.0,
        encodes_media=widths.encodes_media,
        any_image_size=widths.encoder_per_token > 0,
    )


DEFAULT_MAX_LORAS = 1
DEFAULT_MAX_LORA_RANK = 16
"""vllm/config/lora.py@0.33."""

LARGEST_FLAG = 1e15

STATE_KIND = SpecKind.STATE.value
STATE_BLOCKS_CHECKED_SINCE = (0, 17, 0)

_UNIFIED_NAMES = ("gb10", "dgx spark", "thor", "strix", "apu")
_FABRIC_NAMES = ("h100", "h200", "h800", "h20", "b200", "b300", "gb200", "gb300", "gh200")
_SWITCH_NAMES = ("a100", "a800")
_BUS_NAMES = ("nvl", "pcie")


@functools.lru_cache(maxsize=256)
def has_fabric(product: str | None) -> bool:
    """Whether ranks on this card talk over NVLink switches of Hopper or later, by its name.

    There the all-reduce kernels of NCCL (NVLS), FlashInfer and symmetric memory allocate gigabytes of buffers.
    """
    name = (product or "").lower()
    return any(part in name for part in _FABRIC_NAMES) and not any(part in name for part in _BUS_NAMES)


@functools.lru_cache(maxsize=256)
def link_of(product: str | None) -> Link:
    """What joins several cards of that name; PCIe unless the name says otherwise."""
    if has_fabric(product):
        return Link.FABRIC
    name = (product or "").lower()
    is_switched = any(part in name for part in _SWITCH_NAMES) and not any(part in name for part in _BUS_NAMES)
    return Link.SWITCH if is_switched else Link.BUS


@functools.lru_cache(maxsize=256)
def has_unified_memory(product: str | None) -> bool:
    """Whether CPU and GPU share one memory, by the product's name."""
    name = (product or "").lower()
    return any(part in name for part in _UNIFIED_NAMES)


def _resident_weights(
    facts: ModelFacts, weights: WeightBytes, resolved: ResolvedSettings, device: Device, widths: Widths
) -> int:
    """Weights on the GPU: MXFP4 repacked, without a pooling model's head and what `--cpu-offload-gb` moves to the host.

    Only layers are offloaded; embedding and head stay (vllm/model_executor/models/utils.py `maybe_offload_to_cpu`).
    """
    loaded = weights.loaded_bytes
    if has_fabric(device.product):
        shared = resolved.tensor_parallel_size > 1
        padding = table.MXFP4_REPACKED_SHARED if shared else table.MXFP4_REPACKED_ALONE
        loaded += int(padding * mxfp4_expert_bytes(facts, resolved))
    offloaded = int(_number(resolved.flags.get("cpu_offload_gb")) * GIB)
    if not offloaded and not pools(resolved):
        return loaded
    tied = language_config(facts.config).get("tie_word_embeddings")
    head = widths.vocabulary * widths.hidden * widths.element_bytes // resolved.tensor_parallel_size
    if tied is False and facts.generates and pools(resolved):
        loaded -= head
    if offloaded:
        loaded = max(min(loaded, head * (1 if tied else 2)), loaded - offloaded)
    return loaded


def _stated_cache_bytes(resolved: ResolvedSettings, layout: KvLayout) -> int | None:
    """`--kv-cache-memory-bytes` or `--num-gpu-blocks-override`: the cache is exactly that, whatever is left.

    Source: vllm/v1/worker/gpu_worker.py@0.33 `determine_available_memory`, vllm/v1/core/kv_cache_utils.py.
    """
    blocks = int(_number(resolved.flags.get("num_gpu_blocks_override")))
    if blocks:
        return blocks * layout.bytes_per_block
    stated = _number(resolved.flags.get("kv_cache_memory_bytes") or resolved.flags.get("kv_cache_memory"))
    return int(stated) if stated > 0 else None


def _number(value: object) -> float:
    """A flag's figure; 0 for what is none, or too large to be meant."""
    if not isinstance(value, (int, float, str)) or isinstance(value, bool):
        return 0.0
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return 0.0
    return number if 0 < number < LARGEST_FLAG else 0.0


def _lora_bytes(widths: Widths, resolved: ResolvedSettings) -> float:
    if not resolved.lora:
        return 0.0
    adapters = int(_number(resolved.lora.get("max_loras"))) or DEFAULT_MAX_LORAS
    rank = int(_number(resolved.lora.get("max_lora_rank"))) or DEFAULT_MAX_LORA_RANK
    return lora_bytes(widths, adapters=adapters, rank=rank)


def _figures(
    resolved: ResolvedSettings,
    device: Device,
    terms: _Terms,
    capacity: KvCapacity | None,
    layout: KvLayout,
    *,
    requested: int,
    loaded: int,
    left: int,
) -> StartFigures:
    length = resolved.max_model_len
    state_blocks = None
    if capacity is not None and not resolved.speculative and _has_state(layout) and _checks_state_blocks(resolved):
        state_blocks = capacity.num_blocks
    return StartFigures(
        device_bytes=device.memory_bytes,
        requested_bytes=requested,
        weights_bytes=loaded + terms.lora,
        activation_bytes=terms.activation,
        non_torch_bytes=terms.non_torch,
        kv_cache_bytes=left,
        graphs_outside_bytes=max(0, terms.graphs - terms.graphs_charged),
        sequence_fits=capacity is not None and capacity.fits,
        sequence_bytes=layout.bytes_one_sequence(length),
        max_model_len=length,
        estimated_max_model_len=capacity.estimated_max_model_len if capacity is not None else None,
        state_blocks=state_blocks,
        max_num_seqs=resolved.max_num_seqs,
    )


def _has_state(layout: KvLayout) -> bool:
    return any(group.kind == STATE_KIND for group in layout.groups)


def _checks_state_blocks(resolved: ResolvedSettings) -> bool:
    """vllm/config/compilation.py `resolve_cudagraph_mode_and_sizes`: full graphs need a state block per sequence."""
    return not resolved.enforce_eager and resolved.version.release >= STATE_BLOCKS_CHECKED_SINCE


def _doubts(
    facts: ModelFacts,
    resolved: ResolvedSettings,
    device: Device,
    terms: _Terms,
    weights: WeightBytes,
    *,
    requested: int,
) -> Doubts:
    version = resolved.version
    share = table.KNOWN_SIZE_WEIGHT_DOUBT if weights.exact else table.MISSING_SIZE_WEIGHT_DOUBT
    visible = visible_memory(device.product)
    return Doubts(
        weights_bytes=share * weights.loaded_bytes,
        activation_bytes=terms.activation,
        graphs_charged_bytes=terms.graphs_charged,
        requested_bytes=requested,
        lean_sampler_gain_bytes=terms.lean_gain,
        link_gib=terms.link_doubt_gib,
        encodes_media=terms.encodes_media,
        any_image_size=terms.any_image_size,
        version_stated=version.stated,
        version_known=version.within_known,
        card_measured=visible is not None and visible.measured,
        unified_memory=has_unified_memory(device.product),
    )


def _notes(resolved: ResolvedSettings, doubts: Doubts, failure: Failure | None) -> tuple[str, ...]:
    notes = [failure.message] if failure is not None else []
    newest = ".".join(map(str, NEWEST_KNOWN))
    if not doubts.version_stated:
        notes.append(f"no release of vLLM is named: answered as {newest}, with a wider interval")
    elif not doubts.version_known:
        notes.append(f"vLLM {resolved.version} is newer than {newest}, the newest known: the interval is wider")
    if doubts.unified_memory:
        notes.append("unified memory: the page cache counts as used, identical starts differ by more than 1 GiB")
    if doubts.lean_sampler_gain_bytes > 0.1 * GIB:
        gain = doubts.lean_sampler_gain_bytes / GIB
        notes.append(f"{gain:.2f} GiB more is left where FlashInfer's sampler is installed and used")
    return tuple(notes)
