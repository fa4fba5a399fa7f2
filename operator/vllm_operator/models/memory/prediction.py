"""What vLLM would report on start, per GPU: the terms put together, with an interval and the failure, if any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.models.gpu_generation import HOPPER, capability_of
from vllm_operator.models.grouping import SpecKind
from vllm_operator.models.memory import constants as table
from vllm_operator.models.memory.environment import constants_as_set
from vllm_operator.models.memory.failure import Failure, StartFailure, StartFigures, first_failure
from vllm_operator.models.memory.flag_figures import flag_number
from vllm_operator.models.memory.interval import Doubts, interval_bytes
from vllm_operator.models.memory.links import has_unified_memory
from vllm_operator.models.memory.stage import StageMemory, memory_by_stage
from vllm_operator.models.recent import recent_layout, recent_weights
from vllm_operator.models.validity import parallelism_problems
from vllm_operator.models.versions import GIB, NEWEST_KNOWN
from vllm_operator.models.visible_memory import visible_memory

if TYPE_CHECKING:
    from vllm_operator.models.facts import Device, FactsBasis, ModelFacts
    from vllm_operator.models.kv import KvCapacity, KvLayout
    from vllm_operator.models.settings import ResolvedSettings
    from vllm_operator.models.weights import WeightBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPrediction:
    """One start on the GPU that decides (of the scarcest pipeline stage), in bytes; no safety margin in it."""

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
    reported: ReportedMemory
    """The rank that the log speaks of; with pipeline stages not always the one that decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedMemory:
    """What the log names: vLLM prints the figures of one rank only, the first, unless another makes the start fail."""

    weights: WeightBytes
    stage: StageMemory
    kv_cache_bytes: int
    kv_cache_bytes_interval: tuple[int, int]


def predict_memory(
    facts: ModelFacts,
    resolved: ResolvedSettings,
    device: Device,
    *,
    weights: tuple[WeightBytes, ...] | None = None,
    layout: KvLayout | None = None,
    constants: table.MemoryConstants | None = None,
    problems: tuple[str, ...] | None = None,
    gpu_memory_utilization: float | None = None,
    stage_devices: tuple[Device, ...] = (),
    stages: tuple[StageMemory, ...] = (),
) -> MemoryPrediction:
    """Predicts a start.

    `weights` and `stages` (of each pipeline stage), `layout` and the `problems` of the parallelism are recomputed
    unless the caller has them from the same settings. `constants` stands in for the version's row of the table: a fit
    passes its own. A `gpu_memory_utilization` stands in for that of the settings, on which nothing else depends.
    `stage_devices` are the GPUs of the stages where these differ; settings are then resolved for `device`.

    Available KV memory = ceil(device x utilization) - weights - non-torch - activation peak - charged graphs, as
    vllm/v1/worker/gpu_worker.py `determine_available_memory` has it; of several stages the one whose memory holds the
    fewest blocks decides. Never raises for settings that vLLM refuses: they come back as `StartFailure.INVALID`.
    """
    constants = constants_as_set(constants or table.constants_for(resolved.version), resolved)
    weights = weights or recent_weights(facts, resolved, device)
    layout = layout or recent_layout(facts, resolved)
    utilization = gpu_memory_utilization or resolved.gpu_memory_utilization
    stages = stages or memory_by_stage(facts, resolved, device, weights, constants, stage_devices=stage_devices)
    fixed = _stated_cache_bytes(resolved, layout)
    left = tuple(stage.left(utilization) for stage in stages) if fixed is None else (fixed,) * len(stages)
    scarcest = layout.scarcest_stage(left)
    capacity = layout.capacity_of_stages(left, resolved.max_model_len) if min(left) > 0 else None
    if problems is None:
        problems = parallelism_problems(facts, resolved)
    if problems:
        failure: Failure | None = Failure(kind=StartFailure.INVALID, message="; ".join(problems))
    else:
        failure = _failure(resolved, utilization, stages, left, capacity, layout)
    doubts = _doubts(resolved, stages[scarcest], weights[scarcest], utilization)
    interval = interval_bytes(left[scarcest], doubts, constants) if fixed is None else (fixed, fixed)
    stage = stages[scarcest]
    decides = ReportedMemory(
        weights=weights[scarcest],
        stage=stage,
        kv_cache_bytes=max(0, left[scarcest]),
        kv_cache_bytes_interval=interval,
    )
    reported = decides
    if scarcest and failure is None:
        of_first = _doubts(resolved, stages[0], weights[0], utilization)
        reported = ReportedMemory(
            weights=weights[0],
            stage=stages[0],
            kv_cache_bytes=left[0],
            kv_cache_bytes_interval=interval_bytes(left[0], of_first, constants) if fixed is None else interval,
        )
    return MemoryPrediction(
        weights_bytes=stage.weights,
        activation_bytes=stage.activation,
        cuda_graph_bytes=stage.graphs,
        graphs_charged_bytes=stage.graphs_charged,
        non_torch_bytes=stage.non_torch,
        lora_bytes=stage.lora,
        kv_cache_bytes=decides.kv_cache_bytes,
        kv_cache_bytes_interval=interval,
        requested_bytes=stage.requested(utilization),
        starts=failure is None,
        failure=failure.kind if failure else None,
        notes=_notes(resolved, doubts, failure),
        basis=weights[0].basis,
        capacity=capacity,
        reported=reported,
    )


STATE_KIND = SpecKind.STATE.value
STATE_BLOCKS_CHECKED_SINCE = (0, 17, 0)


def _stated_cache_bytes(resolved: ResolvedSettings, layout: KvLayout) -> int | None:
    """`--kv-cache-memory-bytes` or `--num-gpu-blocks-override`: the cache is exactly that, whatever is left.

    Source: vllm/v1/worker/gpu_worker.py@0.33 `determine_available_memory`, vllm/v1/core/kv_cache_utils.py.
    """
    if not resolved.flags:
        return None
    blocks = int(flag_number(resolved.flags.get("num_gpu_blocks_override")))
    if blocks:
        return blocks * layout.bytes_per_block
    stated = flag_number(resolved.flags.get("kv_cache_memory_bytes") or resolved.flags.get("kv_cache_memory"))
    return int(stated) if stated > 0 else None


_ORDER = tuple(StartFailure)
_NEWEST = ".".join(map(str, NEWEST_KNOWN))


def _failure(
    resolved: ResolvedSettings,
    utilization: float,
    stages: tuple[StageMemory, ...],
    left: tuple[int, ...],
    capacity: KvCapacity | None,
    layout: KvLayout,
) -> Failure | None:
    """The failure that any stage meets first."""
    found: list[Failure] = []
    for stage, available in zip(stages, left, strict=True):
        failure = first_failure(_figures(resolved, utilization, stage, capacity, layout, left=available))
        if failure is not None:
            found.append(failure)
    return min(found, key=lambda failure: _ORDER.index(failure.kind)) if found else None


def _figures(
    resolved: ResolvedSettings,
    utilization: float,
    stage: StageMemory,
    capacity: KvCapacity | None,
    layout: KvLayout,
    *,
    left: int,
) -> StartFigures:
    length = resolved.max_model_len
    state_blocks = None
    if capacity is not None and not resolved.speculative and _has_state(layout) and _checks_state_blocks(resolved):
        state_blocks = capacity.num_blocks
    return StartFigures(
        device_bytes=stage.device.memory_bytes,
        requested_bytes=stage.requested(utilization),
        weights_bytes=stage.weights + stage.lora,
        activation_bytes=stage.activation,
        non_torch_bytes=stage.non_torch,
        kv_cache_bytes=left,
        graphs_outside_bytes=max(0, stage.graphs - stage.graphs_charged),
        sequence_fits=capacity is not None and capacity.fits,
        sequence_bytes=layout.checked_bytes_one_sequence(length),
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


def _doubts(resolved: ResolvedSettings, stage: StageMemory, weights: WeightBytes, utilization: float) -> Doubts:
    version = resolved.version
    share = table.KNOWN_SIZE_WEIGHT_DOUBT if weights.exact else table.MISSING_SIZE_WEIGHT_DOUBT
    visible = visible_memory(stage.device.product)
    return Doubts(
        weights_bytes=share * weights.loaded_bytes,
        activation_bytes=stage.activation,
        graphs_charged_bytes=stage.graphs_charged,
        requested_bytes=stage.requested(utilization),
        lean_sampler_gain_bytes=stage.lean_gain,
        link_gib=stage.link_doubt_gib,
        encodes_media=stage.encodes_media,
        any_image_size=stage.any_image_size,
        version_stated=version.stated,
        version_known=version.within_known,
        card_measured=visible is not None and visible.measured,
        unified_memory=has_unified_memory(stage.device.product),
        is_hopper=capability_of(stage.device) == HOPPER,
    )


def _notes(resolved: ResolvedSettings, doubts: Doubts, failure: Failure | None) -> tuple[str, ...]:
    notes = [failure.message] if failure is not None else []
    if not doubts.version_stated:
        notes.append(f"no release of vLLM is named: answered as {_NEWEST}, with a wider interval")
    elif not doubts.version_known:
        notes.append(f"vLLM {resolved.version} is newer than {_NEWEST}, the newest known: the interval is wider")
    if doubts.unified_memory:
        notes.append("unified memory: the page cache counts as used, identical starts differ by more than 1 GiB")
    if doubts.lean_sampler_gain_bytes > 0.1 * GIB:
        gain = doubts.lean_sampler_gain_bytes / GIB
        notes.append(f"{gain:.2f} GiB more is left where FlashInfer's sampler is installed and used")
    return tuple(notes)
