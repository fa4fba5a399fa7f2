"""Whether a start survives, and what to change when it does not: in the order in which vLLM would find out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vllm_operator.models.memory.constants import CUDA_CONTEXT_GIB
from vllm_operator.models.versions import GIB


class StartFailure(StrEnum):
    """Where a start ends, as `vllm-operator predict` names it."""

    INVALID = "invalid"
    MEMORY_CHECK = "memory_check"
    LOAD = "load"
    KV = "kv"
    POST_KV = "post_kv"


GRAPHS_NOT_FROM_FREED_MEMORY = 0.6
"""Share of the graphs that is new memory; the rest reuses what the profile run freed (-0.8 GiB is in a log)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFigures:
    """The bytes that decide, per GPU."""

    device_bytes: int
    requested_bytes: int
    weights_bytes: int
    activation_bytes: int
    non_torch_bytes: int
    kv_cache_bytes: int
    """What is left for the KV cache: negative when there is nothing."""
    graphs_outside_bytes: int
    sequence_fits: bool
    sequence_bytes: int
    max_model_len: int
    estimated_max_model_len: int | None
    state_blocks: int | None
    """Blocks that can hold a sequence's recurrent state; None without such layers or where vLLM does not check."""
    max_num_seqs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a start ends, in a sentence with numbers, and the next step."""

    kind: StartFailure
    message: str


def first_failure(figures: StartFigures) -> Failure | None:
    """The failure that vLLM meets first, or None when the start survives."""
    for check in _CHECKS:
        failure = check(figures)
        if failure is not None:
            return failure
    return None


def _memory_check(figures: StartFigures) -> Failure | None:
    free = figures.device_bytes - CUDA_CONTEXT_GIB * GIB
    if figures.requested_bytes <= free:
        return None
    share = free / figures.device_bytes
    return Failure(
        kind=StartFailure.MEMORY_CHECK,
        message=(
            f"vLLM asks for {_gib(figures.requested_bytes)} of an empty card's {_gib(free)} free and stops at once; "
            f"set gpu_memory_utilization to {int(share * 100) / 100:.2f} or less"
        ),
    )


def _load(figures: StartFigures) -> Failure | None:
    room = figures.device_bytes - CUDA_CONTEXT_GIB * GIB
    if figures.weights_bytes > room:
        return Failure(
            kind=StartFailure.LOAD,
            message=(
                f"weights take {_gib(figures.weights_bytes)} per GPU and the card has {_gib(room)}; "
                "raise the tensor or pipeline parallel size, or choose a quantized checkpoint"
            ),
        )
    peak = figures.weights_bytes + figures.activation_bytes + figures.non_torch_bytes
    if peak > room:
        return Failure(
            kind=StartFailure.LOAD,
            message=(
                f"weights and the profile run's peak take {_gib(peak)} per GPU and the card has {_gib(room)}; "
                "lower max_num_seqs and max_num_batched_tokens, or raise the tensor parallel size"
            ),
        )
    return None


def _kv_cache(figures: StartFigures) -> Failure | None:
    if figures.kv_cache_bytes <= 0:
        taken = figures.requested_bytes - figures.kv_cache_bytes
        return Failure(
            kind=StartFailure.KV,
            message=(
                f"nothing is left for the KV cache: vLLM may use {_gib(figures.requested_bytes)} per GPU, weights and "
                f"the profile run take {_gib(taken)}; raise gpu_memory_utilization or the tensor parallel size"
            ),
        )
    if figures.sequence_fits:
        return None
    estimate = figures.estimated_max_model_len
    fix = f"lower max_model_len to {estimate}" if estimate else "lower max_model_len"
    return Failure(
        kind=StartFailure.KV,
        message=(
            f"one sequence of {figures.max_model_len} tokens needs {_gib(figures.sequence_bytes)} of KV cache per GPU, "
            f"{_gib(figures.kv_cache_bytes)} is available; {fix}, raise gpu_memory_utilization or use an fp8 KV cache"
        ),
    )


def _state_blocks(figures: StartFigures) -> Failure | None:
    blocks = figures.state_blocks
    if blocks is None or blocks >= figures.max_num_seqs:
        return None
    return Failure(
        kind=StartFailure.POST_KV,
        message=(
            f"max_num_seqs is {figures.max_num_seqs} and the cache holds the recurrent state of {blocks} sequences; "
            f"set max_num_seqs to {blocks} or less"
        ),
    )


def _after_the_cache(figures: StartFigures) -> Failure | None:
    graphs = GRAPHS_NOT_FROM_FREED_MEMORY * figures.graphs_outside_bytes
    resident = figures.requested_bytes + graphs + CUDA_CONTEXT_GIB * GIB
    if resident <= figures.device_bytes:
        return None
    share = 1 - (graphs + CUDA_CONTEXT_GIB * GIB) / figures.device_bytes
    return Failure(
        kind=StartFailure.POST_KV,
        message=(
            f"CUDA graphs and the sampler's warm-up come after the KV cache is sized: {_gib(resident)} resident "
            f"on a card of {_gib(figures.device_bytes)}; set gpu_memory_utilization to "
            f"{int(share * 100) / 100:.2f} or less, or enforce_eager"
        ),
    )


_CHECKS = (_memory_check, _load, _kv_cache, _state_blocks, _after_the_cache)
"""In the order in which vLLM would find out."""


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"
