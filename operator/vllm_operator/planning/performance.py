"""How fast a plan can be at best and about: bounds from what the GPU's memory and matrix units can do (a roofline).

Nothing here is measured. The fast end is what the hardware allows, the slow end what a busy engine still reaches;
where a bound would mislead (quantized weights, mixtures of experts, shared or unknown GPUs) nothing is said at all.

Decoding reads all weights and the KV cache of all running sequences once a step, so it is bound by memory bandwidth;
prefill multiplies every parameter with every prompt token, so it is bound by the matrix units. Worked example:
Llama-3.1-8B on an H100 (3350 GB/s) reads 16.1 GB a step, so no token takes less than 4.8 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.cluster.devices import NVLINK
from vllm_operator.cluster.products import find_product
from vllm_operator.cluster.records import Sharing
from vllm_operator.planning.need import share_of_a_copy

if TYPE_CHECKING:
    from vllm_operator.cluster.devices import DeviceFacts
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.candidate import Candidate
    from vllm_operator.planning.request import Request

Range = tuple[float, float]

BANDWIDTH_SHARE: Range = (0.95, 0.50)
"""Share of the memory bandwidth that decoding reaches, fast end first."""
MATRIX_SHARE: Range = (0.75, 0.30)
"""Share of the dense BF16 throughput that prefill reaches, fast end first."""
ALL_REDUCE_SECONDS: dict[bool, Range] = {True: (5e-6, 30e-6), False: (15e-6, 100e-6)}
"""One small all-reduce over NVLink (True) or PCIe (False)."""
ALL_REDUCES_PER_LAYER = 2
STEP_OVERHEAD_SECONDS: Range = (0.0, 3e-3)
"""Scheduling, sampling and the API server, per step."""
BYTES_PER_PARAMETER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """Seconds, fast end first; tokens a second, slow end first."""

    concurrency: int
    context_length: int
    prompt_tokens: int | None
    seconds_per_token: Range
    """Between two tokens of one sequence, with `concurrency` sequences of `context_length` running."""
    tokens_per_second: Range
    """Of all those sequences together, prefill aside."""
    seconds_to_first_token: Range | None
    """On an idle server, for a prompt of `prompt_tokens`; None when the spec does not state one."""
    basis: str = "roofline of the GPU's data sheet, not measured"


def performance_of(request: Request, facts: ModelFacts | None, candidate: Candidate | None) -> Performance | None:
    """The bounds of a plan, None where there is nothing honest to say."""
    if facts is None or candidate is None or candidate.size is None or not _is_plain(facts, request, candidate):
        return None
    device = _data_sheet(candidate)
    if device is None or device.bandwidth_gbs is None:
        return None
    step = _decode_step(facts, candidate, device)
    running = candidate.concurrency
    return Performance(
        concurrency=running,
        context_length=candidate.context_length,
        prompt_tokens=request.prompt_tokens,
        seconds_per_token=step,
        tokens_per_second=(running / step[1], running / step[0]),
        seconds_to_first_token=_first_token(request.prompt_tokens, facts, candidate, device, step),
    )


def cost_per_million_tokens(performance: Performance, *, gpus: int, price_per_gpu_hour: float) -> Range:
    """What a million generated tokens cost while the replica is fully busy, cheap end first, in the price's currency.

    >>> busy = Performance(concurrency=8, context_length=8192, prompt_tokens=None, seconds_per_token=(0.005, 0.01),
    ...                    tokens_per_second=(500.0, 1000.0), seconds_to_first_token=None)
    >>> tuple(round(cost, 2) for cost in cost_per_million_tokens(busy, gpus=2, price_per_gpu_hour=1.8))
    (1.0, 2.0)
    """
    price_per_second = price_per_gpu_hour * gpus / 3600
    slow, fast = performance.tokens_per_second
    return price_per_second / fast * 1e6, price_per_second / slow * 1e6


def _is_plain(facts: ModelFacts, request: Request, candidate: Candidate) -> bool:
    """Dense, 16-bit, generating, on whole GPUs of one node, without speculation: what the roofline describes."""
    return (
        facts.generates
        and not facts.num_experts
        and facts.quantization is None
        and request.quantization is None
        and request.speculative is None
        and not facts.is_multimodal
        and candidate.capacity.gpu_class.sharing is Sharing.EXCLUSIVE
        and candidate.parallelism.nodes == 1
    )


def _data_sheet(candidate: Candidate) -> DeviceFacts | None:
    found = find_product(candidate.capacity.gpu_class.product).candidates
    return found[0] if len(found) == 1 else None


def _decode_step(facts: ModelFacts, candidate: Candidate, device: DeviceFacts) -> Range:
    assert candidate.size is not None
    assert device.bandwidth_gbs is not None
    room = candidate.size.memory_room
    running = share_of_a_copy(candidate.concurrency, candidate.parallelism.data)
    cache_bytes = room.layout.bytes_one_sequence(candidate.context_length) * running
    # The stages of a pipeline work one after the other on one token.
    read_bytes = (room.weights_bytes + cache_bytes) * candidate.parallelism.pipeline
    seconds = read_bytes / (device.bandwidth_gbs * 1e9)
    talk = _communication(facts, candidate)
    return (
        seconds / BANDWIDTH_SHARE[0] + talk[0] + STEP_OVERHEAD_SECONDS[0],
        seconds / BANDWIDTH_SHARE[1] + talk[1] + STEP_OVERHEAD_SECONDS[1],
    )


def _communication(facts: ModelFacts, candidate: Candidate) -> Range:
    if candidate.parallelism.tensor == 1:
        return 0.0, 0.0
    once = ALL_REDUCE_SECONDS[candidate.capacity.gpu_class.interconnect == NVLINK]
    number = ALL_REDUCES_PER_LAYER * facts.num_layers
    return number * once[0], number * once[1]


def _first_token(
    prompt_tokens: int | None, facts: ModelFacts, candidate: Candidate, device: DeviceFacts, step: Range
) -> Range | None:
    if prompt_tokens is None or device.bf16_tflops is None:
        return None
    assert candidate.size is not None
    spread = candidate.parallelism
    parameters = candidate.size.forecast.memory.weights_bytes * spread.group / BYTES_PER_PARAMETER
    attention = 2 * facts.num_layers * facts.num_attention_heads * facts.head_dim * prompt_tokens**2
    seconds = (2 * parameters * prompt_tokens + attention) / (device.bf16_tflops * 1e12 * spread.tensor)
    return seconds / MATRIX_SHARE[0] + step[0], seconds / MATRIX_SHARE[1] + step[1]
