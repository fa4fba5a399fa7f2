"""What one start of vLLM takes on one GPU, term by term: plain numbers in, bytes out.

A start sizes the KV cache from what a dummy batch leaves (vllm/v1/worker/gpu_worker.py `determine_available_memory`).
The batch's peak is the larger of two moments: a layer's widest tensors in the forward pass, over all batched tokens,
and the sampler, over one row of logits per sequence. Experts' scratch and encoder outputs lie beneath both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from vllm_operator.models.memory.constants import (
    COPIES_WITHOUT_FLASH_ATTENTION,
    ENCODER_OUTPUT_GIB,
    GRAPHS_BASE_GIB,
    GRAPHS_PER_LAYER_GIB,
    GRAPHS_REFERENCE_SIZES,
    MLA_PREFILL_TOKENS,
    PIPELINE_HIDDEN_COPIES,
    SWITCHED_RANKS,
)
from vllm_operator.models.versions import GIB

if TYPE_CHECKING:
    from vllm_operator.models.memory.constants import MemoryConstants
    from vllm_operator.models.memory.encoders import EncoderLoad, EncoderWidths


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """The tensor widths of one GPU's share of a model, in elements per token (or per logit row)."""

    hidden: int
    feed_forward: int
    """Three times the dense intermediate size per rank (gate, up and their product), or two without a gate."""
    attention: int
    """Twice the queries, keys and values of one layer per rank."""
    vocabulary: int
    experts_per_token: int
    experts: int
    """Routed experts of a layer that one rank holds, or holds a slice of."""
    expert_intermediate: int
    """Per rank: divided by TP and DP, whole under expert parallelism."""
    mla_heads: int
    """Heads per rank whose keys and values are expanded from the latent; 0 without MLA."""
    mla_head_width: int
    layers: int
    element_bytes: int
    encoder: EncoderWidths | None
    """Of a multimodal model's encoder; None where nothing is encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The dummy batch of the profile run."""

    tokens: int
    expert_tokens: int
    """Tokens that reach a layer's experts: those of every data-parallel rank, which share them."""
    sequences: int
    pipelined: bool
    """The batch crosses pipeline stages, whose hidden states and residuals stay allocated."""
    encoder: EncoderLoad
    """Tokens of the media that are encoded beside it."""
    flash_attention: bool
    """False where V0 ran another attention kernel, which keeps one hidden state more."""
    samples: bool
    """False for pooling models and for pipeline stages before the last: no logits are made."""


def forward_peak_bytes(widths: Widths, batch: Batch, constants: MemoryConstants) -> float:
    """Live bytes at a layer's widest point.

    Llama-3.1-8B, 8192 tokens: 8192 x 2 x (3 x 14336 + 4.2 x 4096) = 0.92 GiB.
    """
    widest = max(widths.feed_forward, widths.attention)
    copies = constants.forward_hidden_copies + (0 if batch.flash_attention else COPIES_WITHOUT_FLASH_ATTENTION)
    peak = batch.tokens * widths.element_bytes * (widest + copies * widths.hidden)
    if not constants.experts_workspace_stays:
        hidden = _hidden(widths, batch, constants.forward_hidden_copies)
        peak = max(peak, experts_workspace_bytes(widths, batch, constants) + hidden)
    if widths.mla_heads:
        peak += MLA_PREFILL_TOKENS * widths.mla_heads * widths.mla_head_width * widths.element_bytes
    return peak


def sampler_peak_bytes(widths: Widths, batch: Batch, constants: MemoryConstants, bytes_per_logit: float) -> float:
    """Live bytes while one dummy token per sequence is sampled from the whole vocabulary (which every rank holds).

    Llama-3.1-8B, 1024 sequences, 0.19: 1024 x 128256 x (2 + 12.9) + 1.1 x 8192 x 4096 x 2 = 1.89 GiB, measured 1.89.
    """
    if not batch.samples:
        return 0.0
    rows = min(batch.sequences, batch.tokens)
    logits = rows * widths.vocabulary * (widths.element_bytes + bytes_per_logit)
    return logits + _hidden(widths, batch, constants.sampler_hidden_copies)


def encoder_peak_bytes(widths: Widths, batch: Batch) -> float:
    """Live bytes while a batch of the largest items is encoded, pixels included.

    Qwen2.5-VL-7B, a video of 114,688 tokens: 114688 x 4 patches x (3 x 3420 + 4 x 1280 + 1176) x 2 = 14.1 GiB; a start
    of 0.23.0 was 15.2 GiB below its budget without weights and graphs, outputs of 0.8 GiB included.
    """
    return float(batch.encoder.encoded * widths.encoder.live * widths.element_bytes) if widths.encoder else 0.0


def encoder_output_bytes(widths: Widths, batch: Batch) -> float:
    """What the encoder hands over and the profile run keeps; never below what fixed sizes were measured to."""
    if widths.encoder is None:
        return 0.0
    return max(ENCODER_OUTPUT_GIB * GIB, float(batch.encoder.kept * widths.encoder.output * widths.element_bytes))


def experts_workspace_bytes(widths: Widths, batch: Batch, constants: MemoryConstants) -> float:
    """The fused experts' scratch: gate and up, their product, and the output (which reuses the first where shared).

    Source: vllm/model_executor/layers/fused_moe/modular_kernel.py `workspace_shapes`. Mixtral at TP 2, 8192 tokens:
    8192 x 2 x (14336 + 7168) x 2 = 0.66 GiB.
    """
    intermediate = widths.expert_intermediate
    if not intermediate:
        return 0.0
    if constants.experts_workspace_shared:
        width = max(2 * intermediate, widths.hidden) + intermediate
    else:
        width = 3 * intermediate + widths.hidden
    return float(batch.expert_tokens * widths.experts_per_token * width * widths.element_bytes)


def activation_bytes(
    widths: Widths, batch: Batch, constants: MemoryConstants, *, bytes_per_logit: float | None = None
) -> float:
    """Peak of the profile run above what stays allocated."""
    per_logit = constants.sampler_bytes_per_logit if bytes_per_logit is None else bytes_per_logit
    peak = max(
        forward_peak_bytes(widths, batch, constants),
        sampler_peak_bytes(widths, batch, constants, per_logit),
        encoder_peak_bytes(widths, batch),
    )
    if constants.experts_workspace_stays:
        peak += experts_workspace_bytes(widths, batch, constants)
    if batch.pipelined:
        peak += _hidden(widths, batch, PIPELINE_HIDDEN_COPIES)
    return peak + encoder_output_bytes(widths, batch)


def lora_bytes(widths: Widths, *, adapters: int, rank: int, on_experts: bool) -> float:
    """Slots for LoRA matrices on every linear layer: A is whole on each rank, B divides with its layer.

    Sources: vllm/lora/layers/base_linear.py and fused_moe.py@0.33, not fully sharded. Llama-3.1-8B, 4 adapters of rank
    32: 4 x 32 x 2 x 32 x (7 x 4096 + 10240 + 43008) = 0.63 GiB. Every expert has slots of its own: Qwen3-30B-A3B, one
    adapter of rank 16: 16 x 2 x 48 x 128 x 3 x (2048 + 768) = 1.55 GiB for the experts alone.
    """
    per_layer = 7 * widths.hidden + widths.attention + widths.feed_forward
    if on_experts:
        per_layer += 3 * widths.experts * (widths.hidden + widths.expert_intermediate)
    return float(adapters * rank * widths.element_bytes * widths.layers * per_layer)


def captured_sizes(largest: int) -> int:
    """How many batch sizes are captured: 1, 2, 4, every 8 below 256, every 16 up to the largest.

    Source: vllm/config/vllm.py `_set_cudagraph_sizes`; 51 for 512.
    """
    small = (largest >= 1) + (largest >= 2) + (largest >= 4)
    eights = max(0, (min(largest, 255)) // 8)
    sixteens = 0 if largest < 256 else (largest - 256) // 16 + 1
    return small + eights + sixteens


def graph_bytes(widths: Widths, *, sizes: int) -> float:
    """CUDA graphs as captured, whether or not the budget is charged for them."""
    full = GRAPHS_BASE_GIB + GRAPHS_PER_LAYER_GIB * widths.layers
    return full * GIB * sizes / GRAPHS_REFERENCE_SIZES


class Link(Enum):
    """How ranks of one group reach each other."""

    FABRIC = "NVLink switches of Hopper and later, whose multicast needs buffers of its own"
    SWITCH = "NVLink switches of the A100"
    BUS = "PCIe, or NVLink bridges between pairs"


def link_gib(constants: MemoryConstants, *, ranks: int, link: Link) -> tuple[float, float]:
    """Buffers of NCCL and the all-reduce kernels for that many ranks, and their spread (one standard deviation).

    Between A100 on a switch one log (eight ranks, V0) took as much as Hopper's fabric does, and pairs take what a bus
    does: four and more are answered half-way, and the spread reaches both.
    """
    over_fabric = constants.fabric_pair_gib if ranks == 2 else constants.fabric_quad_gib
    over_bus = constants.bus_gib if ranks == 2 else constants.bus_quad_gib
    if link is Link.FABRIC:
        return over_fabric, constants.fabric_doubt_gib
    if link is Link.SWITCH and ranks >= SWITCHED_RANKS:
        middle = (over_fabric + over_bus) / 2
        return middle, max(constants.bus_doubt_gib, abs(over_fabric - over_bus) / 2)
    return over_bus, constants.bus_doubt_gib


def non_torch_bytes(constants: MemoryConstants, *, ranks: int, pipeline_parallel: int, link: Link) -> float:
    """What the process takes outside torch between the snapshot and the end of the profile run.

    `ranks` are those that exchange tensors inside a layer; pipeline stages pass theirs on without such buffers.
    """
    if ranks == 1:
        alone = constants.non_torch_gib if pipeline_parallel == 1 else constants.non_torch_pipeline_gib
        return (alone + constants.context_inside_budget_gib) * GIB
    buffers, _ = link_gib(constants, ranks=ranks, link=link)
    return (constants.non_torch_gib + constants.context_inside_budget_gib + buffers) * GIB


def _hidden(widths: Widths, batch: Batch, copies: float) -> float:
    return copies * batch.tokens * widths.hidden * widths.element_bytes
