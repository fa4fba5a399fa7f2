"""Which of vLLM's two model runners a start takes: they size the sampler and the CUDA graphs differently.

Source: vllm/config/vllm.py `use_v2_model_runner`, `_is_default_v2_model_runner_model` and
`DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES`, 0.22 to 0.29: the environment decides; else only generating models without
experts, first of a few architectures and not quantized, from 0.26 on every one that keeps no state. Pull request 53183,
merged after 0.29.0, takes it for all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vllm_operator.models.cache_kinds import cache_kinds
from vllm_operator.models.caches import StateCache
from vllm_operator.models.memory.constants import NEW_RUNNER_SAMPLER_BYTES_PER_LOGIT
from vllm_operator.models.memory.environment import switch
from vllm_operator.models.memory.widths import pools

if TYPE_CHECKING:
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.models.memory.constants import MemoryConstants
    from vllm_operator.models.settings import ResolvedSettings

_ASKED: Final = "VLLM_USE_V2_MODEL_RUNNER"
_SINCE: Final = (0, 22, 0)
_WIDER_SINCE: Final = (0, 23, 0)
_EVERY_DENSE_SINCE: Final = (0, 26, 0)
_EVERY_MODEL_SINCE: Final = (0, 30, 0)
_FIRST: Final = frozenset({"Qwen3ForCausalLM"})
_WIDER: Final = frozenset({"Qwen3ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"})


def constants_of_runner(constants: MemoryConstants, facts: ModelFacts, resolved: ResolvedSettings) -> MemoryConstants:
    """The version's coefficients for the runner that the model takes."""
    if not runs_new_runner(facts, resolved):
        return constants
    per_logit = NEW_RUNNER_SAMPLER_BYTES_PER_LOGIT
    return replace(
        constants,
        sampler_bytes_per_logit=per_logit,
        sampler_bytes_per_logit_lean=per_logit,
        graphs_inside_budget=constants.new_runner_graphs_inside_budget,
    )


def runs_new_runner(facts: ModelFacts, resolved: ResolvedSettings) -> bool:
    """Whether the start takes the new runner (`vllm/v1/worker/gpu/model_runner.py`)."""
    release = resolved.version.release
    if release < _SINCE:
        return False
    asked = switch(resolved.flags.get(_ASKED))
    if asked is not None:
        return asked
    if not facts.generates or pools(resolved):
        return False
    if release >= _EVERY_MODEL_SINCE:
        return True
    if facts.num_experts:
        return False
    if release >= _EVERY_DENSE_SINCE:
        return not any(isinstance(cache, StateCache) for cache in cache_kinds(facts))
    if facts.quantization or resolved.quantization:
        return False
    return facts.architecture in (_WIDER if release >= _WIDER_SINCE else _FIRST)
