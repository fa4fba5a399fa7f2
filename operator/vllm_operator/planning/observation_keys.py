"""What an observation is filed under: all that decides the KV cache's memory, and nothing that could be a secret.

Flags and variables are taken by name from a list; any other is left out, whatever its value.
"""

from __future__ import annotations

import hashlib
import re
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.observations import ObservationKey
from vllm_operator.api.pod_template import ENGINE_CONTAINER
from vllm_operator.planning.flags import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.planning.plan import Plan

MEMORY_FLAGS: Final = frozenset(
    {
        "async-scheduling",
        "attention-backend",
        "block-size",
        "compilation-config",
        "cpu-offload-gb",
        "cudagraph-capture-sizes",
        "decode-context-parallel-size",
        "disable-chunked-prefill",
        "disable-custom-all-reduce",
        "disable-hybrid-kv-cache-manager",
        "disable-prefix-caching",
        "disable-sliding-window",
        "dtype",
        "enable-chunked-prefill",
        "enable-eplb",
        "enable-expert-parallel",
        "enable-lora",
        "enable-prefix-caching",
        "enable-sleep-mode",
        "enforce-eager",
        "gpu-memory-utilization",
        "hf-overrides",
        "kv-cache-dtype",
        "kv-cache-memory-bytes",
        "kv-transfer-config",
        "language-model-only",
        "limit-mm-per-prompt",
        "load-format",
        "lora-dtype",
        "mamba-block-size",
        "mamba-cache-dtype",
        "mamba-cache-mode",
        "mamba-ssm-cache-dtype",
        "max-cudagraph-capture-size",
        "max-lora-rank",
        "max-loras",
        "max-model-len",
        "max-num-batched-tokens",
        "max-num-seqs",
        "mm-processor-kwargs",
        "moe-backend",
        "num-gpu-blocks-override",
        "optimization-level",
        "performance-mode",
        "quantization",
        "runner",
        "skip-mm-profiling",
        "speculative-config",
    }
)
"""Flags of `vllm serve` (0.33.0) that weights, activation, graphs or the cache's layout depend on, without dashes."""
MEMORY_VARIABLES: Final = frozenset(
    {
        "PYTORCH_CUDA_ALLOC_CONF",
        "VLLM_ALL2ALL_BACKEND",
        "VLLM_CPU_KVCACHE_SPACE",
        "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS",
        "VLLM_USE_FLASHINFER_SAMPLER",
    }
)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:+-]{0,64}")
_USER_INFORMATION: Final = re.compile(r"^([a-z0-9]+://)?[^/@]*@(?=[^/]*/)")
_SHORT_FLAGS: Final = ("-O", "-cc")
_DIGITS: Final = 12
_LONGEST: Final = 512


def key_of(plan: Plan, spec: VLLMDeploymentSpec) -> ObservationKey | None:
    """Return what a start of this plan is filed under; None where the plan has no place or the GPU is unknown."""
    placement = plan.placement
    if placement is None or not plan.args or not placement.gpu_class.memory_bytes:
        return None
    return ObservationKey(
        model=_public(spec.model.uri),
        revision=plan.revision,
        engine_version=plan.engine_version,
        image=_public(plan.image),
        resource_name=placement.gpu_class.resource_name,
        gpu_product=placement.gpu_class.product,
        gpu_memory_bytes=placement.gpu_class.memory_bytes,
        tensor_parallel_size=plan.tensor_parallel_size,
        pipeline_parallel_size=plan.pipeline_parallel_size,
        data_parallel_size=plan.data_parallel_size,
        settings=tuple(sorted({*_flags(plan.args), *_variables(spec)})),
    )


def _public(address: str) -> str:
    """Return an address without `user:password@`."""
    return _USER_INFORMATION.sub(r"\1", address)[:_LONGEST]


def _flags(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the flags that count; vLLM reads `-O3` and `-cc.mode=3` too, and fields of a value as `--flag.field`."""
    for number, argument in enumerate(arguments):
        if argument.startswith(_SHORT_FLAGS):
            yield _shown(argument)
        if not argument.startswith("--"):
            continue
        name, separator, value = argument[2:].partition("=")
        flag = canonical(name)
        if flag not in MEMORY_FLAGS and flag.removeprefix("no-") not in MEMORY_FLAGS:
            continue
        if not separator:
            value = " ".join(takewhile(lambda word: not word.startswith("--"), arguments[number + 1 :]))
        yield f"{flag}={_shown(value)}" if flag == name else f"{flag}={_digest(f'{name}={value}')}"


def _variables(spec: VLLMDeploymentSpec) -> Iterator[str]:
    for one in spec.engine.env:
        if one.name in MEMORY_VARIABLES and one.value is not None:
            yield f"{one.name}={_shown(one.value)}"
    for entry in _overlay_variables(spec.pod_template):
        name, value = entry.get("name"), entry.get("value")
        if name in MEMORY_VARIABLES and isinstance(value, str):
            yield f"{name}={_shown(value)}"


def _overlay_variables(overlay: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for container in (overlay.get("spec") or {}).get("containers") or []:
        if container.get("name") == ENGINE_CONTAINER:
            yield from container.get("env") or []


def _shown(value: str) -> str:
    """Return a value, or its digest where it is more than a word."""
    return value if _PLAIN.fullmatch(value) else _digest(value)


def _digest(value: str) -> str:
    return f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:_DIGITS]}"
