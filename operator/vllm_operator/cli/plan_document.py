"""The plan as data: the same names as in the resource's status, figures in bytes where the status has bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from vllm_operator.cli.planning import Judged
    from vllm_operator.planning.performance import Performance
    from vllm_operator.planning.plan import Alternative, Placement, Plan, TradeOff


def as_json(judged: tuple[Judged, ...]) -> str:
    """One object, or a list where the file has several deployments."""
    return json.dumps(_documents(judged), indent=2, ensure_ascii=False)


def as_yaml(judged: tuple[Judged, ...]) -> str:
    """One document, or a list where the file has several deployments."""
    import yaml

    return yaml.safe_dump(_documents(judged), sort_keys=False, allow_unicode=True, width=120).rstrip()


def _documents(judged: tuple[Judged, ...]) -> object:
    documents = [document_of(entry) for entry in judged]
    return documents[0] if len(documents) == 1 else documents


def document_of(entry: Judged) -> dict[str, Any]:
    """One deployment's plan."""
    plan, metadata = entry.plan, entry.deployment.metadata
    return {
        "name": metadata.name,
        "namespace": metadata.namespace,
        "verdict": plan.verdict.value,
        "oomRisk": plan.oom_risk.value if plan.oom_risk is not None else None,
        "message": _message(entry),
        "feasibility": _dumped(plan.feasibility),
        "memory": _dumped(plan.memory),
        "plan": _plan(plan) if plan.args else None,
        "suggestions": [
            {"summary": suggestion.summary, "patch": suggestion.patch, "effect": suggestion.effect}
            for suggestion in plan.suggestions
        ],
        "warnings": list(plan.warnings),
        "tradeOffs": [_trade_off(row) for row in plan.trade_offs],
        "performance": _performance(plan.performance),
        "costPerMillionTokens": list(entry.cost_per_million_tokens) if entry.cost_per_million_tokens else None,
        "alternatives": [_alternative(alternative) for alternative in entry.alternatives],
        "objects": list(entry.objects),
    }


def _message(entry: Judged) -> str:
    return f"{entry.facts_missing} {entry.plan.message}" if entry.facts_missing else entry.plan.message


def _dumped(model: BaseModel | None) -> dict[str, Any] | None:
    return model.model_dump(mode="json", by_alias=True) if model is not None else None


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "hash": plan.hash,
        "image": plan.image,
        "engineVersion": plan.engine_version,
        "model": plan.model,
        "revision": plan.revision,
        **_placement(plan.placement),
        "replicas": plan.replicas,
        "tensorParallelSize": plan.tensor_parallel_size,
        "pipelineParallelSize": plan.pipeline_parallel_size,
        "dataParallelSize": plan.data_parallel_size,
        "expertParallel": plan.expert_parallel,
        "maxModelLen": plan.max_model_len,
        "concurrency": plan.concurrency,
        "maxNumSeqs": plan.max_num_seqs,
        "maxNumBatchedTokens": plan.max_num_batched_tokens,
        "gpuMemoryUtilization": plan.gpu_memory_utilization,
        "kvCacheDtype": plan.kv_cache_dtype,
        "args": list(plan.args),
        "reasons": [{"flag": reason.flag, "value": reason.value, "why": reason.why} for reason in plan.reasons],
    }


def _performance(performance: Performance | None) -> dict[str, Any] | None:
    if performance is None:
        return None
    first = performance.seconds_to_first_token
    return {
        "concurrency": performance.concurrency,
        "contextLength": performance.context_length,
        "promptTokens": performance.prompt_tokens,
        "secondsPerToken": list(performance.seconds_per_token),
        "tokensPerSecond": list(performance.tokens_per_second),
        "secondsToFirstToken": list(first) if first is not None else None,
        "basis": performance.basis,
    }


def _trade_off(row: TradeOff) -> dict[str, int]:
    return {"contextLength": row.context_length, "maxConcurrency": row.max_concurrency}


def _placement(placement: Placement | None) -> dict[str, Any]:
    if placement is None:
        return {}
    return {
        "resourceName": placement.gpu_class.resource_name,
        "gpuProduct": placement.gpu_class.product,
        "gpuMemoryBytes": placement.gpu_class.memory_bytes,
        "gpusPerReplica": placement.gpus_per_replica,
        "nodesPerReplica": placement.nodes_per_replica,
        "nodes": list(placement.nodes),
    }


def _alternative(alternative: Alternative) -> dict[str, Any]:
    gpu_class = alternative.gpu_class
    return {
        "resourceName": gpu_class.resource_name,
        "gpuProduct": gpu_class.product,
        "gpuMemoryBytes": gpu_class.memory_bytes,
        "gpusPerReplica": alternative.gpus_per_replica,
        "nodesPerReplica": alternative.nodes_per_replica,
        "verdict": alternative.verdict.value,
        "oomRisk": alternative.oom_risk.value if alternative.oom_risk is not None else None,
        "headroomBytes": alternative.headroom_bytes,
        "maxContext": alternative.max_context,
        "maxConcurrency": alternative.max_concurrency,
        "byContext": [_trade_off(row) for row in alternative.by_context],
        "byConcurrency": [
            {"concurrency": row.max_concurrency, "maxContext": row.context_length} for row in alternative.by_concurrency
        ],
    }
