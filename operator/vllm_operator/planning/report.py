"""The chosen candidate's figures in the shapes of the API: the documented report and vLLM's own breakdown, per GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.api.status import FeasibilityReport, MemoryBreakdown
from vllm_operator.planning.forecast import forecast
from vllm_operator.planning.memory import compute_feasibility
from vllm_operator.planning.need import share_of_a_copy

if TYPE_CHECKING:
    from vllm_operator.planning.decision import Decision


def feasibility_of(decision: Decision) -> FeasibilityReport | None:
    """The documented arithmetic of the chosen (or closest) candidate; None when no sum can be made."""
    best, facts = decision.best, decision.facts
    if best is None or best.need is None or best.size is None or facts is None:
        return None
    policy, need, copies = decision.request.policy, best.need, best.parallelism.data
    report = compute_feasibility(
        need.weights_bytes,
        need.kv_cache_bytes,
        need.overhead_bytes,
        need.vram_bytes,
        best.size.utilization,
        policy.headroom_gb,
        best.context_length,
        share_of_a_copy(best.concurrency, copies),
        facts,
        fragmentation_factor=policy.fragmentation_factor,
        layout=best.size.forecast.layout,
        max_model_len=facts.max_model_len,
    )
    return report.model_copy(update={"max_concurrency_at_context": report.max_concurrency_at_context * copies})


def memory_of(decision: Decision) -> MemoryBreakdown | None:
    """What vLLM itself would report for the chosen (or closest) candidate, without any margin."""
    best, facts = decision.best, decision.facts
    if best is None or best.need is None or best.device is None or best.size is None or facts is None:
        return None
    started = forecast(facts, best.size.settings_at(best.context_length), best.device)
    memory = started.memory
    capacity = started.layout.capacity(max(0, memory.kv_cache_bytes), best.context_length)
    return MemoryBreakdown(
        total_bytes=best.device.memory_bytes,
        requested_bytes=memory.requested_bytes,
        weights_bytes=memory.weights_bytes,
        activation_bytes=memory.activation_bytes,
        cuda_graph_bytes=max(0, memory.cuda_graph_bytes),
        non_torch_bytes=memory.non_torch_bytes,
        overhead_bytes=best.need.overhead_bytes,
        kv_cache_bytes=max(0, memory.kv_cache_bytes),
        kv_cache_interval_bytes=[max(0, bound) for bound in memory.kv_cache_bytes_interval],
        kv_cache_needed_bytes=best.need.kv_cache_bytes,
        kv_cache_tokens=capacity.tokens,
        basis=str(memory.basis),
    )
