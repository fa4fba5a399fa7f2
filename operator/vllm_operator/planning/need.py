"""What one GPU of a group must hold: the prediction with the user's policy on top of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.api.spec import OverheadModel
from vllm_operator.planning.memory import GIB, assess_risk, compute_overhead, longest_context
from vllm_operator.planning.plan import OomRisk

if TYPE_CHECKING:
    from vllm_operator.models.kv import KvLayout
    from vllm_operator.planning.forecast import Forecast
    from vllm_operator.planning.request import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The sum for one GPU, in bytes. `required + headroom = budget` always holds; the headroom may be negative."""

    vram_bytes: int
    budget_bytes: int
    weights_bytes: int
    kv_cache_bytes: int
    overhead_bytes: int
    wanted_headroom_bytes: int
    kv_cache_low_bytes: int | None = None
    """Lower end of what a start may leave for the KV cache; None where the user set the overhead instead."""

    @property
    def required_bytes(self) -> int:
        """Weights, KV cache and overhead together."""
        return self.weights_bytes + self.kv_cache_bytes + self.overhead_bytes

    @property
    def headroom_bytes(self) -> int:
        """What is left of the budget; negative when it does not suffice."""
        return self.budget_bytes - self.required_bytes

    @property
    def fits(self) -> bool:
        """Whether the headroom that the policy wants is there."""
        return self.headroom_bytes >= self.wanted_headroom_bytes

    @property
    def exceeds_lower_end(self) -> bool:
        """Whether the KV cache does not fit the lower end of what a start may leave for it."""
        return self.kv_cache_low_bytes is not None and self.kv_cache_bytes > self.kv_cache_low_bytes

    @property
    def risk(self) -> OomRisk:
        """How close to the limit it runs: High also where the KV cache does not fit what a poor start would leave."""
        if self.exceeds_lower_end:
            return OomRisk.HIGH
        return assess_risk(self.headroom_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRoom:
    """What is there for the KV cache on one GPU, before a context length is chosen; all figures in bytes."""

    layout: KvLayout
    fragmentation_factor: float
    vram_bytes: int
    budget_bytes: int
    """What vLLM may take of the GPU."""
    weights_bytes: int
    """Loaded weights on the fullest GPU, with the slots for LoRA adapters."""
    overhead_bytes: int
    wanted_headroom_bytes: int
    """The headroom that the policy asks for on each GPU."""
    kv_cache_low_bytes: int | None = None
    """Lower end of the 80 % interval of what vLLM leaves for the KV cache; None where the policy sets the overhead."""
    data_parallel_size: int = 1
    """Copies of the model in one replica, each with a KV cache of its own: vLLM spreads the sequences over them."""

    @property
    def available_bytes(self) -> int:
        """What the KV cache may take; negative when the weights alone are too big."""
        return self.budget_bytes - self.weights_bytes - self.overhead_bytes - self.wanted_headroom_bytes

    def kv_cache_bytes(self, context_length: int, concurrency: int) -> int:
        """The KV cache of that many sequences of that length, and the block that vLLM keeps empty."""
        if not self.layout.groups:
            return 0
        sequence_bytes = self.layout.bytes_one_sequence(context_length)
        return self.layout.bytes_per_block + round(
            sequence_bytes * self._on_a_copy(concurrency) * self.fragmentation_factor
        )

    def _on_a_copy(self, concurrency: int) -> int:
        """Sequences of the fullest copy, when that many are spread over all of them."""
        return share_of_a_copy(concurrency, self.data_parallel_size)

    def need(self, context_length: int, concurrency: int) -> Need:
        """The whole sum for one GPU."""
        return Need(
            vram_bytes=self.vram_bytes,
            budget_bytes=self.budget_bytes,
            weights_bytes=self.weights_bytes,
            kv_cache_bytes=self.kv_cache_bytes(context_length, concurrency),
            overhead_bytes=self.overhead_bytes,
            wanted_headroom_bytes=self.wanted_headroom_bytes,
            kv_cache_low_bytes=self.kv_cache_low_bytes,
        )

    def max_concurrency(self, context_length: int) -> int:
        """How many sequences of that length hold at once, within the policy; never below 0."""
        layout = self.layout
        sequence_bytes = layout.bytes_one_sequence(context_length) * self.fragmentation_factor
        room_bytes = self.available_bytes - layout.bytes_per_block
        return max(0, int(room_bytes / sequence_bytes)) * self.data_parallel_size if sequence_bytes > 0 else 0

    def max_context(self, concurrency: int, limit: int) -> int:
        """The longest context, up to `limit`, at which that many sequences hold at once; 0 when no token does."""
        layout = self.layout
        if not layout.groups:
            return limit if self.available_bytes >= 0 else 0
        room_bytes = self.available_bytes - layout.bytes_per_block
        if room_bytes <= 0:
            return 0
        per_sequence_bytes = int(room_bytes / (self._on_a_copy(concurrency) * self.fragmentation_factor))
        return longest_context(layout, per_sequence_bytes, limit)


def memory_room(predicted: Forecast, policy: Policy, *, vram_bytes: int, group_size: int) -> MemoryRoom:
    """Put the user's policy on top of a prediction, for one GPU of a group of equal ones."""
    return MemoryRoom(
        layout=predicted.layout,
        fragmentation_factor=policy.fragmentation_factor,
        vram_bytes=vram_bytes,
        budget_bytes=int(vram_bytes * policy.gpu_memory_utilization),
        weights_bytes=predicted.memory.weights_bytes + predicted.memory.lora_bytes,
        overhead_bytes=_overhead_bytes(predicted, policy, vram_bytes=vram_bytes, group_size=group_size),
        wanted_headroom_bytes=round(policy.headroom_gb * GIB),
        kv_cache_low_bytes=None if _overhead_is_set(policy) else predicted.memory.kv_cache_bytes_interval[0],
        data_parallel_size=predicted.resolved.data_parallel_size,
    )


def share_of_a_copy(concurrency: int, data_parallel_size: int) -> int:
    """Return how many of a replica's sequences its fullest copy of the model holds.

    vLLM sends each request to the copy with the fewest (`DPLBAsyncMPClient` in vllm/v1/engine/core_client.py).

    >>> share_of_a_copy(17, 8)
    3
    """
    return -(-concurrency // data_parallel_size)


def _overhead_is_set(policy: Policy) -> bool:
    """Whether the user asked for the documented formula, or for a figure of their own, instead of the prediction."""
    return policy.overhead_gb is not None or policy.overhead_model is OverheadModel.FORMULA


def _overhead_bytes(predicted: Forecast, policy: Policy, *, vram_bytes: int, group_size: int) -> int:
    """One GPU's share of the group's overhead: as the user fixed it, else the larger of formula and profile."""
    group_bytes = compute_overhead(vram_bytes * group_size, group_size, policy.overhead_gb)
    share_bytes = -(-group_bytes // group_size)
    if _overhead_is_set(policy):
        return share_bytes
    memory = predicted.memory
    return max(share_bytes, memory.activation_bytes + memory.cuda_graph_bytes + memory.non_torch_bytes)
