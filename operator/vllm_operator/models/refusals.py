"""Settings that vLLM refuses before it touches a GPU, parallelism aside (`models.validity`), and why.

Sources: vllm/config/{model,cache,scheduler}.py@0.33.0.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vllm_operator.models.parse import language_config
from vllm_operator.models.validity import kernel_problems, problems_of_laid_out
from vllm_operator.models.weights.fields import integer

if TYPE_CHECKING:
    from vllm_operator.models.facts import Device, EngineSettings, ModelFacts
    from vllm_operator.models.settings import ResolvedSettings

_BEFORE_AMPERE = re.compile(r"\b(t4|v100|p100|rtx 20\d\d|2080|1080|titan rtx|quadro rtx)\b", re.IGNORECASE)


def setting_problems(
    facts: ModelFacts, settings: EngineSettings, device: Device, *, laid_out: ResolvedSettings | None = None
) -> tuple[str, ...]:
    """Return why vLLM would refuse these settings; empty when it would not.

    `laid_out` are the same settings for a caller that has resolved them and knows the layout of their caches.
    """
    if laid_out is not None:
        problems = [*problems_of_laid_out(facts, laid_out, device)]
    else:
        problems = [*kernel_problems(facts, settings, device)]
    utilization = settings.gpu_memory_utilization
    if utilization is not None and not 0 < utilization <= 1:
        problems.append(f"gpu_memory_utilization {utilization:g} is not above 0 and at most 1")
    stated = settings.max_model_len
    if stated is not None and stated > facts.max_model_len and stated > longest_allowed(facts):
        problems.append(
            f"max_model_len {stated} is above the model's {longest_allowed(facts)}; "
            "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 would allow it, at the risk of wrong output"
        )
    tokens, sequences = settings.max_num_batched_tokens, settings.max_num_seqs
    if tokens is not None and sequences is not None and tokens < sequences:
        problems.append(f"max_num_batched_tokens {tokens} is below max_num_seqs {sequences}")
    length = settings.max_model_len or facts.max_model_len
    whole_prompts = settings.flags.get("enable_chunked_prefill") is False
    if whole_prompts and facts.generates and tokens is not None and tokens < length:
        problems.append(f"without chunked prefill max_num_batched_tokens {tokens} must reach max_model_len {length}")
    if settings.dtype == "bfloat16" and device.product and _BEFORE_AMPERE.search(device.product):
        problems.append(f"{device.product} has no bfloat16 (compute capability 8.0 or more); set dtype to float16")
    return tuple(problems)


def longest_allowed(facts: ModelFacts) -> int:
    """Longest `max_model_len` that may be asked for: `model_max_length` may exceed what the positions give."""
    return max(facts.max_model_len, integer(language_config(facts.config), "model_max_length"))
