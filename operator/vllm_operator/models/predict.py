"""One row in, one answer out: what vLLM would report for that model, GPU and flag set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.models.bounded_memory import Recent
from vllm_operator.models.devices import Devices, devices_of
from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.facts import Device
from vllm_operator.models.memory import predict_memory
from vllm_operator.models.memory.constants import constants_for
from vllm_operator.models.memory.environment import constants_as_set
from vllm_operator.models.memory.failure import StartFailure
from vllm_operator.models.memory.stage import StageMemory, memory_by_stage
from vllm_operator.models.recent import recent_layout, recent_weights
from vllm_operator.models.refusals import setting_problems
from vllm_operator.models.run_row import RowError, engine_settings
from vllm_operator.models.settings import resolve_settings
from vllm_operator.models.validity import parallelism_problems
from vllm_operator.models.versions import GIB, default_gpu_memory_utilization, prints_tokens_of_one_group

if TYPE_CHECKING:
    from vllm_operator.models.facts import EngineSettings, ModelFacts
    from vllm_operator.models.kv import KvCapacity, KvLayout
    from vllm_operator.models.memory import MemoryPrediction
    from vllm_operator.models.run_row import RunRow
    from vllm_operator.models.settings import ResolvedSettings
    from vllm_operator.models.weights import WeightBytes

Answer = dict[str, object]


def answer(row: RunRow, facts: ModelFacts) -> Answer:
    """The answer to one row, in the fields of the `predict` contract. Raises `RowError` where none can be given."""
    settings = engine_settings(row)
    devices = devices_of(row, tensor=settings.tensor_parallel_size, pipeline=settings.pipeline_parallel_size)
    if devices is None and row.available_kv_cache_gib is None:
        message = f"the memory of GPU {row.gpu!r} is not known: state gpu_memory_gib"
        raise RowError(message)
    devices = devices or Devices(smallest=Device(product=row.gpu, memory_bytes=80 * GIB))
    question = _recent_question(facts, settings, devices)
    if isinstance(question, tuple):
        return {**_blank(row), "starts": False, "failure": StartFailure.INVALID.value, "notes": list(question)}
    resolved, layout, weights = question.resolved, question.layout, question.weights
    if row.available_kv_cache_gib is not None:
        return _capacity_answer(row, resolved, layout, weights[0], int(row.available_kv_cache_gib * GIB))
    prediction = predict_memory(
        facts,
        resolved,
        devices.smallest,
        weights=weights,
        layout=layout,
        problems=(),
        gpu_memory_utilization=settings.gpu_memory_utilization or default_gpu_memory_utilization(resolved.version),
        stages=question.stages,
    )
    return _full_answer(row, resolved, layout, prediction)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What a row asks, its utilization aside: settings with their defaults, and what they make of the model."""

    resolved: ResolvedSettings
    layout: KvLayout
    weights: tuple[WeightBytes, ...]
    stages: tuple[StageMemory, ...]


_QUESTIONS: Recent[_Question | tuple[str, ...]] = Recent(capacity=4096)


def _recent_question(facts: ModelFacts, settings: EngineSettings, devices: Devices) -> _Question | tuple[str, ...]:
    """The question of these settings, remembered: files ask of few models, often at several utilizations.

    A tuple says why vLLM refuses the settings.
    """
    utilization = settings.gpu_memory_utilization
    if utilization is not None and not 0 < utilization <= 1:
        return _question(facts, settings, devices)
    key = (
        settings.version,
        settings.tensor_parallel_size,
        settings.pipeline_parallel_size,
        settings.data_parallel_size,
        settings.decode_context_parallel_size,
        settings.enable_expert_parallel,
        settings.max_model_len,
        settings.max_num_seqs,
        settings.max_num_batched_tokens,
        settings.dtype,
        settings.kv_cache_dtype,
        settings.quantization,
        settings.block_size,
        settings.enforce_eager,
        repr(settings.speculative) if settings.speculative else None,
        repr(settings.lora) if settings.lora is not None else None,
        repr(settings.flags) if settings.flags else None,
        devices,
    )
    return _QUESTIONS.get(facts, key, lambda: _question(facts, settings, devices))


def _question(facts: ModelFacts, settings: EngineSettings, devices: Devices) -> _Question | tuple[str, ...]:
    device = devices.smallest
    try:
        resolved = resolve_settings(facts, settings, device)
        layout = recent_layout(facts, resolved)
    except ModelConfigError:
        return parallelism_problems(facts, settings) + setting_problems(facts, settings, device)
    problems = parallelism_problems(facts, settings) + setting_problems(facts, settings, device, laid_out=resolved)
    if problems:
        return problems
    weights = recent_weights(facts, resolved, device)
    constants = constants_as_set(constants_for(resolved.version), resolved)
    return _Question(
        resolved=resolved,
        layout=layout,
        weights=weights,
        stages=memory_by_stage(facts, resolved, device, weights, constants, stage_devices=devices.of_stages),
    )


def _blank(row: RunRow) -> Answer:
    """Every field of the contract, unanswered."""
    return {
        "id": row.id,
        "parameter_bytes": None,
        "weights_gib": None,
        "activation_gib": None,
        "cuda_graph_gib": None,
        "non_torch_gib": None,
        "kv_cache_gib": None,
        "kv_cache_gib_interval": None,
        "block_size": None,
        "num_gpu_blocks": None,
        "kv_cache_tokens": None,
        "kv_bytes_one_sequence": None,
        "max_concurrency": None,
        "starts": None,
        "failure": None,
        "estimated_max_model_len": None,
        "basis": None,
        "notes": [],
    }


def _capacity_answer(
    row: RunRow, resolved: ResolvedSettings, layout: KvLayout, weights: WeightBytes, available_bytes: int
) -> Answer:
    """Capacity alone, for a stated KV memory."""
    capacity = layout.capacity(available_bytes, resolved.max_model_len)
    return {
        **_blank(row),
        "parameter_bytes": weights.parameter_bytes,
        "weights_gib": _gib(weights.loaded_bytes),
        "kv_cache_gib": row.available_kv_cache_gib,
        **_cache_fields(resolved, layout, capacity),
        "starts": capacity.fits,
        "failure": None if capacity.fits else StartFailure.KV.value,
        "basis": weights.basis.value,
    }


def _full_answer(row: RunRow, resolved: ResolvedSettings, layout: KvLayout, prediction: MemoryPrediction) -> Answer:
    reported = prediction.reported
    low, high = reported.kv_cache_bytes_interval
    stage = reported.stage
    found = _blank(row)
    found["parameter_bytes"] = reported.weights.parameter_bytes
    found["weights_gib"] = _gib(stage.weights)
    found["activation_gib"] = _gib(stage.activation)
    found["cuda_graph_gib"] = _gib(stage.graphs)
    found["non_torch_gib"] = _gib(stage.non_torch)
    found["kv_cache_gib"] = _gib(reported.kv_cache_bytes)
    found["kv_cache_gib_interval"] = [_gib(low), _gib(high)]
    found.update(_cache_fields(resolved, layout, prediction.capacity))
    found["starts"] = prediction.starts
    found["failure"] = prediction.failure.value if prediction.failure else None
    found["basis"] = prediction.basis.value
    found["notes"] = list(prediction.notes)
    return found


def _cache_fields(resolved: ResolvedSettings, layout: KvLayout, capacity: KvCapacity | None) -> Answer:
    """What the cache holds, as that version's log prints it."""
    fields: Answer = {"kv_bytes_one_sequence": layout.bytes_one_sequence(resolved.max_model_len)}
    if layout.groups:
        fields["block_size"] = layout.smallest_block
    if capacity is None:
        return fields
    fields["num_gpu_blocks"] = capacity.num_blocks
    fields["kv_cache_tokens"] = _printed_tokens(resolved, layout, capacity)
    fields["max_concurrency"] = round(capacity.max_concurrency, 4)
    if not capacity.fits:
        fields["estimated_max_model_len"] = capacity.estimated_max_model_len
    return fields


def _printed_tokens(resolved: ResolvedSettings, layout: KvLayout, capacity: KvCapacity) -> int:
    if not prints_tokens_of_one_group(resolved.version) or not layout.groups:
        return capacity.tokens
    return capacity.num_blocks // len(layout.groups) * layout.smallest_block * resolved.decode_context_parallel_size


def _gib(size: int) -> float:
    return round(size / GIB, 4)
