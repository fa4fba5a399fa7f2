"""What vLLM would do with one model, one set of settings and one GPU, remembered.

The same question comes up for every deployment of a model, for every suggestion and after every change of the
cluster, so the answers (pure functions of their inputs) are kept for the last few thousand questions.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.models.memory import predict_memory
from vllm_operator.models.recent import recent_layout
from vllm_operator.models.settings import resolve_settings
from vllm_operator.models.validity import parallelism_problems

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from vllm_operator.models.facts import Device, EngineSettings, ModelFacts
    from vllm_operator.models.kv import KvLayout
    from vllm_operator.models.memory import MemoryPrediction
    from vllm_operator.models.settings import ResolvedSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Resolved defaults, KV-cache layout and predicted memory per GPU of the group's fullest rank."""

    resolved: ResolvedSettings
    layout: KvLayout
    memory: MemoryPrediction


_REMEMBERED_FORECASTS = 4096
_forecasts: OrderedDict[Hashable, tuple[ModelFacts, Forecast]] = OrderedDict()
_validity: OrderedDict[Hashable, tuple[ModelFacts, tuple[str, ...]]] = OrderedDict()


def forecast(facts: ModelFacts, settings: EngineSettings, device: Device) -> Forecast:
    """Predict one start of vLLM.

    NB: the key holds the identity of `facts`, and the entry holds `facts` itself: hashing thousands of tensors would
    cost more than the forecast, and an object that is alive shares its id with no other.
    """
    key = (id(facts), _settings_key(settings), device)
    known = _forecasts.get(key)
    if known is not None:
        return known[1]
    resolved = resolve_settings(facts, settings, device)
    answer = Forecast(
        resolved=resolved, layout=recent_layout(facts, resolved), memory=predict_memory(facts, resolved, device)
    )
    _forecasts[key] = (facts, answer)
    if len(_forecasts) > _REMEMBERED_FORECASTS:
        _forecasts.popitem(last=False)
    return answer


def refusals(facts: ModelFacts, settings: EngineSettings) -> tuple[str, ...]:
    """Why vLLM would refuse this parallelism for this model; empty when it would not."""
    key = (id(facts), _settings_key(settings))
    known = _validity.get(key)
    if known is not None:
        return known[1]
    problems = parallelism_problems(facts, settings)
    _validity[key] = (facts, problems)
    if len(_validity) > _REMEMBERED_FORECASTS:
        _validity.popitem(last=False)
    return problems


def _settings_key(settings: EngineSettings) -> Hashable:
    return (
        settings.version,
        settings.tensor_parallel_size,
        settings.pipeline_parallel_size,
        settings.data_parallel_size,
        settings.decode_context_parallel_size,
        settings.enable_expert_parallel,
        settings.max_model_len,
        settings.max_num_seqs,
        settings.max_num_batched_tokens,
        settings.gpu_memory_utilization,
        settings.dtype,
        settings.kv_cache_dtype,
        settings.quantization,
        settings.block_size,
        settings.enforce_eager,
        _frozen(settings.speculative),
        _frozen(settings.lora),
        _frozen(settings.flags),
    )


def _frozen(mapping: Mapping[str, object] | None) -> Hashable:
    return tuple(sorted((key, repr(value)) for key, value in mapping.items())) if mapping else None
