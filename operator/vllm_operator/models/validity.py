"""Which parallelism vLLM refuses for a model, and why.

Sources: `verify_with_parallel_config` in vllm/config/model.py, `QKVParallelLinear` in
vllm/model_executor/layers/linear.py@0.33.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_operator.models.facts import EngineSettings, ModelFacts
    from vllm_operator.models.settings import ResolvedSettings


def parallelism_problems(facts: ModelFacts, settings: EngineSettings | ResolvedSettings) -> tuple[str, ...]:
    """Return why vLLM would refuse these sizes; empty when it would not."""
    problems = []
    size, stages = settings.tensor_parallel_size, settings.pipeline_parallel_size
    heads, kv_heads = facts.num_attention_heads, facts.num_kv_heads
    if heads % size:
        problems.append(f"tensor-parallel-size {size} does not divide the model's {heads} attention heads")
    elif kv_heads % size and size % kv_heads:
        problems.append(
            f"tensor-parallel-size {size} neither divides the model's {kv_heads} key/value heads nor is a multiple"
        )
    if stages > facts.num_layers:
        problems.append(f"pipeline-parallel-size {stages} is greater than the model's {facts.num_layers} layers")
    if settings.enable_expert_parallel and not facts.num_experts:
        problems.append("expert parallelism needs a mixture-of-experts model; this one is dense")
    return tuple(problems)
