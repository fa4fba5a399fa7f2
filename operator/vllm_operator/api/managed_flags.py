"""Flags of `vllm serve` that the operator sets itself, and the field that a user sets instead."""

from __future__ import annotations

from typing import Final

MANAGED_FLAGS: Final = {
    "--model": "spec.model.uri",
    "--revision": "spec.model.revision",
    "--served-model-name": "spec.model.servedName",
    "--trust-remote-code": "spec.model.trustRemoteCode",
    "--hf-token": "spec.model.tokenSecretRef",
    "--max-model-len": "spec.workload.contextLength",
    "--dtype": "spec.engine.dtype",
    "--quantization": "spec.engine.quantization",
    "-q": "spec.engine.quantization",
    "--kv-cache-dtype": "spec.engine.kvCacheDtype",
    "--tensor-parallel-size": "spec.engine.tensorParallelSize",
    "-tp": "spec.engine.tensorParallelSize",
    "--pipeline-parallel-size": "spec.engine.pipelineParallelSize",
    "-pp": "spec.engine.pipelineParallelSize",
    "--data-parallel-size": "spec.engine.dataParallelSize",
    "-dp": "spec.engine.dataParallelSize",
    "--enable-expert-parallel": "spec.engine.expertParallel",
    "--no-enable-expert-parallel": "spec.engine.expertParallel",
    "-ep": "spec.engine.expertParallel",
    "--max-num-seqs": "spec.engine.maxNumSeqs",
    "--max-num-batched-tokens": "spec.engine.maxNumBatchedTokens",
    "--gpu-memory-utilization": "spec.policy.gpuMemoryUtilization",
    "--device-memory-utilization": "spec.policy.gpuMemoryUtilization",
    "--kv-cache-memory-bytes": "spec.policy.gpuMemoryUtilization",
    "--enforce-eager": "spec.engine.enforceEager",
    "--no-enforce-eager": "spec.engine.enforceEager",
    "--speculative-config": "spec.engine.speculative",
    "--enable-lora": "spec.engine.lora",
    "--no-enable-lora": "spec.engine.lora",
    "--max-loras": "spec.engine.lora.maxLoras",
    "--max-lora-rank": "spec.engine.lora.maxRank",
    "--lora-modules": "spec.engine.lora.adapters",
    "--tool-call-parser": "spec.engine.toolCalling",
    "--enable-auto-tool-choice": "spec.engine.toolCalling",
    "--reasoning-parser": "spec.engine.reasoning",
    "-sc": "spec.engine.speculative",
    "--config": "the fields of the spec: a file could set any flag behind the planner's back",
    "--log-config-file": "an environment variable VLLM_LOGGING_LEVEL: the operator reads the engine's last words",
    "--host": "nothing: the pod listens on all addresses",
    "--uds": "nothing: the Service needs a port",
    "--port": "spec.service.port",
    "--ssl-keyfile": "nothing: end TLS in front of the Service; probes and metrics use plain HTTP",
    "--ssl-certfile": "nothing: end TLS in front of the Service; probes and metrics use plain HTTP",
    "--api-key": "an environment variable VLLM_API_KEY with secretKeyRef: an argument is readable by everybody",
    "--shutdown-timeout": "nothing: it follows from the pod's grace period",
    "--nnodes": "spec.engine.pipelineParallelSize: over how many nodes it goes is planned",
    "--node-rank": "nothing: each pod of a group is told its own",
    "--master-addr": "nothing: each pod of a group is told its leader",
    "--master-port": "nothing: each pod of a group is told its leader",
    "--headless": "nothing: a pod that serves nobody would never be ready",
}
"""Flag to the field that replaces it."""

_SHORTEST_ABBREVIATION: Final = 5
"""`--` and three letters: shorter prefixes are ambiguous for vLLM's parser and refused by it."""


def managed_flag(argument: str) -> str | None:
    """Return the managed flag that an argument sets, or None.

    Sees `--flag=value`, underscores for dashes, and the unambiguous prefixes that vLLM's argparse accepts.
    """
    if not argument.startswith("-"):
        return None
    name = argument.split("=", 1)[0].split(" ", 1)[0]
    name = name if not name.startswith("--") else name.replace("_", "-")
    if name in MANAGED_FLAGS:
        return name
    # `-tp2` is argparse's short form with its value attached.
    for short in ("-tp", "-pp", "-dp"):
        if name.startswith(short) and name[len(short) :].isdigit():
            return short
    if name.startswith("--") and len(name) >= _SHORTEST_ABBREVIATION:
        matches = [flag for flag in MANAGED_FLAGS if flag.startswith(name)]
        if len(matches) == 1:
            return matches[0]
    return None
