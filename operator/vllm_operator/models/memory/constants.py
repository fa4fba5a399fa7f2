"""Every fitted number of the memory model: one row per range of vLLM versions, with its source and what it leaves over.

The shapes of the terms are physics (terms.py); these are their coefficients. `residual_gib` is the spread (one
standard deviation, GiB) of measured KV memory around the prediction in that range where its inputs are known; it is
what the interval starts from. `docs/explanation/memory-model.md` prints this table and its out-of-sample errors.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_operator.models.versions import EngineVersion

Release = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConstants:
    """Coefficients from the version `since` on, until the next row's."""

    since: Release
    sampler_bytes_per_logit: float
    """Live bytes per logit at the sampler's peak, beyond the logits in the model's own type."""
    sampler_bytes_per_logit_lean: float
    """The same where a fused sampler (FlashInfer) runs: an optional install before 0.17, so the interval spans both."""
    sampler_hidden_copies: float
    """Hidden-state tensors (tokens x hidden) alive at the sampler's peak."""
    forward_hidden_copies: float
    """Hidden-state tensors alive while a layer's widest tensors are."""
    experts_workspace_shared: bool
    """The experts' output reuses the scratch of gate and up (since the modular kernels); before, it has its own."""
    experts_workspace_stays: bool
    """The experts' scratch is kept after the forward pass, so that the sampler's peak comes on top of it."""
    graphs_inside_budget: float
    """Share of the captured CUDA graphs that is subtracted before the KV cache is sized."""
    new_runner_graphs_inside_budget: float
    """The same of the new model runner, which estimates none before 0.28 and much afterwards (runner.py)."""
    context_inside_budget_gib: float
    """Part of the CUDA context that is subtracted."""
    non_torch_gib: float
    """NCCL aside: cuBLAS workspaces, kernels and allocator overhead since the snapshot."""
    non_torch_pipeline_gib: float
    """The same with pipeline parallelism only."""
    fabric_pair_gib: float
    """What two ranks on NVLink (Hopper and later) add: NCCL and all-reduce buffers."""
    fabric_quad_gib: float
    """The same for four ranks or more."""
    bus_gib: float
    """What two ranks on PCIe or older NVLink add."""
    bus_quad_gib: float
    """The same for more ranks."""
    fabric_doubt_gib: float
    """Spread (one standard deviation) of the fabric's buffers."""
    bus_doubt_gib: float
    """Spread of the bus's."""
    activation_doubt: float
    """Relative spread of the activation peak: small where many models were seen, large where few or none were."""
    residual_gib: float
    other_cards_doubt_gib: float
    """Spread more on cards of another generation than Hopper, where a range was measured on Hopper alone."""
    source: str


SAMPLER_OPT_IN_SINCE = (0, 11, 1)
"""Until then FlashInfer's sampler ran wherever it was installed (vLLM's own image has it); from then on only with
`VLLM_USE_FLASHINFER_SAMPLER=1`. vllm/v1/sample/ops/topk_topp_sampler.py `TopKTopPSampler.__init__`."""

FUSED_SAMPLER_BYTES_PER_LOGIT = 12.9
"""What a fused sampler keeps live; the campaign of 0.19.0 and FlashInfer's in 0.10 agree."""

NEW_RUNNER_SAMPLER_BYTES_PER_LOGIT = 4.9
"""The new model runner's profile run samples without top-k and top-p: vllm/v1/worker/gpu/sample/sampler.py."""

FUSED_SAMPLER_SINCE = (0, 17, 0)
"""Until then the default sampler sorted all logits."""

_V0_COUNTING_CONTEXT = MemoryConstants(
    since=(0, 0, 0),
    sampler_bytes_per_logit=36.3,
    sampler_bytes_per_logit_lean=36.3,
    sampler_hidden_copies=1.1,
    forward_hidden_copies=3.1,
    experts_workspace_shared=False,
    experts_workspace_stays=False,
    graphs_inside_budget=0.0,
    new_runner_graphs_inside_budget=0.0,
    context_inside_budget_gib=0.0,
    non_torch_gib=0.35,
    non_torch_pipeline_gib=0.35,
    fabric_pair_gib=0.35,
    fabric_quad_gib=1.5,
    bus_gib=0.20,
    bus_quad_gib=0.20,
    fabric_doubt_gib=0.3,
    bus_doubt_gib=0.3,
    activation_doubt=0.06,
    residual_gib=0.15,
    other_cards_doubt_gib=0.0,
    source="start-up logs of 0.6.4 (vllm#10517): memory taken before the engine counts as its own",
)

_V0 = replace(
    _V0_COUNTING_CONTEXT,
    since=(0, 6, 5),
    non_torch_gib=0.12,
    non_torch_pipeline_gib=0.12,
    source="start-up logs of 0.6.6 to 0.7.3 (lennonYe/6998_project, baodangtrandev/RAG-)",
)

_EARLY_V1 = replace(
    _V0,
    since=(0, 8, 0),
    sampler_bytes_per_logit_lean=FUSED_SAMPLER_BYTES_PER_LOGIT,
    forward_hidden_copies=4.2,
    context_inside_budget_gib=0.45,
    non_torch_gib=0.10,
    non_torch_pipeline_gib=0.07,
    fabric_pair_gib=1.0,
    fabric_quad_gib=2.3,
    bus_gib=0.15,
    bus_quad_gib=0.15,
    fabric_doubt_gib=0.9,
    activation_doubt=0.15,
    residual_gib=0.40,
    source="vllm/v1/worker/gpu_worker.py@0.8.0: the context counts as used; seven later starts agree within 0.35 GiB",
)

_V1_SORTING = replace(
    _EARLY_V1,
    since=(0, 9, 2),
    experts_workspace_shared=True,
    context_inside_budget_gib=0.0,
    bus_gib=0.10,
    bus_quad_gib=0.10,
    fabric_doubt_gib=0.5,
    bus_doubt_gib=0.08,
    activation_doubt=0.05,
    residual_gib=0.15,
    source="llm-d-planner docs/empirical-vllm-memory-results.md (0.11) and 12 logs of 0.9.2 to 0.12",
)

_V1_OPT_IN_SAMPLER = replace(
    _V1_SORTING,
    since=SAMPLER_OPT_IN_SINCE,
    sampler_bytes_per_logit_lean=_V1_SORTING.sampler_bytes_per_logit,
    source="the row above; FlashInfer's sampler only on request",
)

_V1_KEPT_SCRATCH = replace(
    _V1_OPT_IN_SAMPLER,
    since=(0, 13, 0),
    experts_workspace_stays=True,
    non_torch_gib=0.15,
    fabric_quad_gib=1.0,
    bus_gib=0.15,
    bus_quad_gib=0.15,
    fabric_doubt_gib=0.8,
    bus_doubt_gib=0.15,
    activation_doubt=0.10,
    residual_gib=0.30,
    source="logs of 0.13 and 0.15 (Parkhb1106/Telco-RAG, kumaxxp/duo-talk)",
)

_V1_FUSED_SAMPLER = replace(
    _V1_KEPT_SCRATCH,
    since=FUSED_SAMPLER_SINCE,
    sampler_bytes_per_logit=FUSED_SAMPLER_BYTES_PER_LOGIT,
    sampler_bytes_per_logit_lean=FUSED_SAMPLER_BYTES_PER_LOGIT,
    non_torch_gib=0.10,
    fabric_pair_gib=1.8,
    fabric_quad_gib=1.9,
    bus_gib=0.25,
    bus_quad_gib=0.25,
    bus_doubt_gib=0.2,
    residual_gib=0.20,
    source="logs of 0.17 (LzyFischer/MemSuit, KevinHuang8/Augment_QA)",
)

_V1_CAMPAIGN = replace(
    _V1_FUSED_SAMPLER,
    since=(0, 18, 0),
    non_torch_gib=0.25,
    fabric_pair_gib=1.82,
    fabric_quad_gib=1.92,
    bus_gib=0.30,
    bus_quad_gib=0.30,
    fabric_doubt_gib=0.08,
    activation_doubt=0.03,
    residual_gib=0.10,
    other_cards_doubt_gib=0.25,
    source="llm-d-planner pull request 205: 46 starts of 0.19.0 on H100",
)

_V1_CHARGED_GRAPHS = replace(
    _V1_CAMPAIGN,
    since=(0, 21, 0),
    graphs_inside_budget=0.8,
    bus_gib=0.60,
    bus_quad_gib=0.60,
    fabric_doubt_gib=0.4,
    bus_doubt_gib=0.4,
    activation_doubt=0.15,
    residual_gib=0.40,
    source="logs of 0.22 and 0.25 (NnamdiOdozi/mlops-assignment, sostrowsk/dgx-spark-local-llm)",
)

_V1_BESIDE_NEW_RUNNER = replace(
    _V1_CHARGED_GRAPHS,
    since=(0, 26, 0),
    non_torch_gib=0.30,
    bus_gib=0.25,
    bus_quad_gib=1.4,
    fabric_doubt_gib=0.5,
    activation_doubt=0.25,
    source="logs of 0.26 and 0.27 (LukeJYK/AutoScientists, a 4x RTX PRO 6000 write-up)",
)

_NEW_RUNNER_GRAPHS_IN_FULL = replace(
    _V1_BESIDE_NEW_RUNNER,
    since=(0, 28, 0),
    new_runner_graphs_inside_budget=1.35,
    source="five starts of 0.28 (L40S, 2x L4); vllm/v1/worker/gpu/model_runner.py `profile_cudagraph_memory`",
)

_NEW_RUNNER_LATER = replace(
    _NEW_RUNNER_GRAPHS_IN_FULL,
    since=(0, 29, 0),
    new_runner_graphs_inside_budget=1.5,
    non_torch_gib=0.27,
    fabric_doubt_gib=0.6,
    residual_gib=0.60,
    source="one log of 0.31 (A100, Llama-3.1-8B) and three starts of 0.29 (L40S, Qwen3-14B)",
)

TABLE: tuple[MemoryConstants, ...] = (
    _V0_COUNTING_CONTEXT,
    _V0,
    _EARLY_V1,
    _V1_SORTING,
    _V1_OPT_IN_SAMPLER,
    _V1_KEPT_SCRATCH,
    _V1_FUSED_SAMPLER,
    _V1_CAMPAIGN,
    _V1_CHARGED_GRAPHS,
    _V1_BESIDE_NEW_RUNNER,
    _NEW_RUNNER_GRAPHS_IN_FULL,
    _NEW_RUNNER_LATER,
)
"""Oldest first; each row holds until the next one's `since`."""


@functools.lru_cache(maxsize=256)
def constants_for(version: EngineVersion) -> MemoryConstants:
    """The row of that version: the last one that had begun."""
    return next(row for row in reversed(TABLE) if row.since <= version.release)


GRAPHS_BASE_GIB = 0.30
GRAPHS_PER_LAYER_GIB = 0.0155
GRAPHS_REFERENCE_SIZES = 51
"""CUDA graphs: 0.51 GiB for 8 layers to 1.79 for 80, with the 51 capture sizes of an H100 (0.19.0 campaign, +-25 %)."""

ENCODER_OUTPUT_GIB = 0.15
"""A multimodal model's encoder outputs, kept through the profile run (Gemma 3, Kimi-VL, Llama 4 in the campaign)."""

ENCODER_LARGEST_ITEM_TOKENS = 16384
"""Largest image of encoders that take any size, in language tokens (Qwen-VL processors' `max_pixels`)."""

ENCODER_HIDDEN_COPIES = 4
"""Hidden states of an encoder layer beside its feed-forward's tensors and the pixels: between Qwen3.5-9B on an L40S
(0.19.0; 2.8 for an image of 65,536 patches) and Qwen2.5-VL-7B on an A100 (0.23.0; 4.3 for a video of 458,752)."""

COPIES_WITHOUT_FLASH_ATTENTION = 1
"""Hidden states more in V0 on cards older than Ampere, whose attention kernel (xformers) writes a tensor of its own:
Qwen2.5-1.5B on a T4 and Qwen2.5-7B on a V100, both 32,768 tokens, take 4.04 copies where an RTX 3090 takes 3.1."""

PIPELINE_HIDDEN_COPIES = 2
"""Hidden state and residual that a pipeline stage keeps for its neighbour (vllm/sequence.py `IntermediateTensors`)."""

SWITCHED_RANKS = 4
"""Ranks from which A100 of one group are on a switch (HGX boards of four and eight) rather than on bridges."""

MLA_PREFILL_TOKENS = 65536
"""Tokens whose expanded keys and values an MLA layer's profile run allocates: vllm/v1/attention/backends/mla/."""

MXFP4_REPACKED_ALONE = 0.067
MXFP4_REPACKED_SHARED = 0.10
"""What Hopper's Triton layout adds to MXFP4 experts when it pads their rows, on one GPU and on several: gpt-oss-20b
loads 13.47 GiB instead of 12.83 (0.11.0), and 7.01 instead of 6.53 at TP 2 (0.19.0)."""

DRAFT_LAYER_ACTIVATION_SHARE = 0.15
"""What a draft or MTP head adds to the activation peak: its own forward pass runs on the same batch."""

CUDA_CONTEXT_GIB = 0.45
"""Context and libraries outside every budget since 0.9.2 (nvidia-smi against the budget in two logs)."""

MISSING_SIZE_WEIGHT_DOUBT = 0.012
"""Relative doubt of weights computed from config.json alone; 0.003 where the file sizes or headers are known."""
KNOWN_SIZE_WEIGHT_DOUBT = 0.003

INTERVAL_SIGMAS = 1.35
"""Half-width of the 80 % interval in standard deviations (1.28 for a normal law; the tails here are heavier)."""
