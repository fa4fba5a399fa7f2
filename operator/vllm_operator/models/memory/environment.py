"""Environment variables of vLLM that change what a start counts; a row or a pod states them like flags, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vllm_operator.models.memory.constants import FUSED_SAMPLER_BYTES_PER_LOGIT, FUSED_SAMPLER_SINCE

if TYPE_CHECKING:
    from vllm_operator.models.memory.constants import MemoryConstants
    from vllm_operator.models.settings import ResolvedSettings

_FLASHINFER_SAMPLER: Final = "VLLM_USE_FLASHINFER_SAMPLER"
_ESTIMATE_GRAPHS: Final = "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"
_GRAPHS_ESTIMATED_SINCE: Final = (0, 17, 0)
_SAMPLER_SINCE: Final = (0, 8, 0)
_SHARE_WHEN_ESTIMATED: Final = 0.8
"""Of the captured graphs; the share that the versions charge which estimate by default."""


def constants_as_set(constants: MemoryConstants, resolved: ResolvedSettings) -> MemoryConstants:
    """The version's coefficients, as the stated environment changes them.

    Sources: vllm/v1/sample/ops/topk_topp_sampler.py (FlashInfer's sampler where asked for, 0.8 to 0.16) and
    vllm/envs.py, vllm/v1/worker/gpu_worker.py (the estimate of the CUDA graphs, optional from 0.17, default from 0.21).
    """
    flags = resolved.flags
    if not flags:
        return constants
    release = resolved.version.release
    sampler = switch(flags.get(_FLASHINFER_SAMPLER))
    if sampler is not None and _SAMPLER_SINCE <= release < FUSED_SAMPLER_SINCE:
        per_logit = FUSED_SAMPLER_BYTES_PER_LOGIT if sampler else constants.sampler_bytes_per_logit
        constants = replace(constants, sampler_bytes_per_logit=per_logit, sampler_bytes_per_logit_lean=per_logit)
    estimated = switch(flags.get(_ESTIMATE_GRAPHS))
    if estimated is False:
        return replace(constants, graphs_inside_budget=0.0, new_runner_graphs_inside_budget=0.0)
    if estimated and release >= _GRAPHS_ESTIMATED_SINCE and not constants.graphs_inside_budget:
        return replace(constants, graphs_inside_budget=_SHARE_WHEN_ESTIMATED)
    return constants


def switch(value: object) -> bool | None:
    """A switch as the environment spells it; None when it is not set."""
    if value is None:
        return None
    return str(value).strip().lower() in ("1", "true")
