"""What was computed lately for the same model, so that a search over settings pays for weights and layout once."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from vllm_operator.models.kv import KvLayout, kv_layout
from vllm_operator.models.memory.widths import widths_of
from vllm_operator.models.weights import WeightBytes, weights_per_gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from vllm_operator.models.facts import Device, ModelFacts
    from vllm_operator.models.memory.terms import Widths
    from vllm_operator.models.settings import ResolvedSettings

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Bounded memory of results by model and key. Models are compared by identity: facts are frozen and large."""

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[tuple[int, Hashable], tuple[ModelFacts, Value]] = OrderedDict()

    def get(self, facts: ModelFacts, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value kept for that model and key, else `compute()`, kept from now on."""
        place = (id(facts), key)
        found = self._kept.get(place)
        if found is not None:
            return found[1]
        value = compute()
        # NB: the facts are kept beside the value, or another model could be made at the same address.
        self._kept[place] = (facts, value)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return value


_WEIGHTS: Recent[WeightBytes] = Recent(capacity=512)
_LAYOUTS: Recent[KvLayout] = Recent(capacity=512)
_WIDTHS: Recent[Widths] = Recent(capacity=512)


def recent_weights(facts: ModelFacts, resolved: ResolvedSettings, device: Device) -> WeightBytes:
    """`weights_per_gpu`, remembered."""
    key = (
        resolved.tensor_parallel_size,
        resolved.pipeline_parallel_size,
        resolved.data_parallel_size,
        resolved.enable_expert_parallel,
        resolved.dtype,
        resolved.quantization,
        device.product,
        device.compute_capability,
    )
    return _WEIGHTS.get(facts, key, lambda: weights_per_gpu(facts, resolved, device))


def recent_layout(facts: ModelFacts, resolved: ResolvedSettings) -> KvLayout:
    """`kv_layout`, remembered: by all settings but the utilization, LoRA and eager mode, on which no layout depends."""
    key = (
        resolved.version,
        resolved.tensor_parallel_size,
        resolved.pipeline_parallel_size,
        resolved.data_parallel_size,
        resolved.decode_context_parallel_size,
        resolved.max_model_len,
        resolved.max_num_seqs,
        resolved.max_num_batched_tokens,
        resolved.max_in_flight_tokens,
        resolved.dtype,
        resolved.kv_cache_dtype,
        resolved.block_size,
        resolved.enable_prefix_caching,
        resolved.hybrid_kv_cache_manager,
        repr(resolved.speculative) if resolved.speculative else None,
        repr(resolved.flags) if resolved.flags else None,
    )
    return _LAYOUTS.get(facts, key, lambda: kv_layout(facts, resolved))


def recent_widths(facts: ModelFacts, resolved: ResolvedSettings) -> Widths:
    """`widths_of`, remembered."""
    key = (
        resolved.tensor_parallel_size,
        resolved.enable_expert_parallel,
        resolved.dtype,
        repr(resolved.flags) if resolved.flags else None,
    )
    return _WIDTHS.get(facts, key, lambda: widths_of(facts, resolved))
