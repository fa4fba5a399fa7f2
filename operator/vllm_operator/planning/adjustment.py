"""Healing by asking for less: what `spec.policy.autoAdjust: Safe` lowers after vLLM has said that it is too much.

Only the workload is lowered, context length and sequences at once; never the model, its weights' or its cache's
precision, nor anything else that changes an answer. Each step is the user's to see, there are few, and a changed spec
starts anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from vllm_operator.planning.candidate import SMALLEST_CONTEXT
from vllm_operator.planning.judging import CONTEXT_STEP

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMDeploymentSpec

MOST_STEPS: Final = 3
"""Restarts that are spent on one spec before its user has to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """How much less than the spec is asked for, and why; None: as the spec says."""

    context_length: int | None = None
    max_num_seqs: int | None = None
    steps: int = 0
    why: str = ""

    @property
    def message(self) -> str:
        """What was lowered, after which words, and how to have it otherwise."""
        parts = [
            f"{name} to {value:,}"
            for name, value in (("the context", self.context_length), ("the sequences at once", self.max_num_seqs))
            if value is not None
        ]
        return (
            f"autoAdjust lowered {' and '.join(parts)} (step {self.steps} of at most {MOST_STEPS}), as {self.why};"
            " set spec.workload or spec.engine.maxNumSeqs to what is wanted, or spec.policy.autoAdjust to Never"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """That a start asked for too much, in vLLM's own words and figures."""

    fact: str
    most_context: int | None = None
    """The longest context that vLLM says it has room for."""
    most_sequences: int | None = None
    """The most sequences that vLLM says it has room for."""
    out_of_memory: bool = False
    """Whether the GPU ran out of memory, of which vLLM says no figure that would fit."""


def next_adjustment(
    overload: Overload, *, max_model_len: int | None, max_num_seqs: int | None, before: Adjustment | None
) -> Adjustment | None:
    """Return what to ask for next, from what the failed start asked for; None where less would not help.

    vLLM's own figure is taken where it has one; a GPU that ran out of memory gets half as many sequences.
    """
    before = before or Adjustment()
    if before.steps >= MOST_STEPS:
        return None
    after = replace(before, steps=before.steps + 1, why=overload.fact)
    if overload.most_context is not None and max_model_len is not None:
        context = overload.most_context - overload.most_context % CONTEXT_STEP
        return replace(after, context_length=context) if SMALLEST_CONTEXT <= context < max_model_len else None
    if max_num_seqs is None:
        return None
    if overload.most_sequences is not None:
        sequences = overload.most_sequences
    elif overload.out_of_memory:
        sequences = max_num_seqs // 2
    else:
        return None
    return replace(after, max_num_seqs=sequences) if 1 <= sequences < max_num_seqs else None


def adjusted(spec: VLLMDeploymentSpec, adjustment: Adjustment) -> VLLMDeploymentSpec:
    """Return the spec with no more asked for than the adjustment says."""
    workload, engine = spec.workload, spec.engine
    if adjustment.context_length is not None:
        context = min(adjustment.context_length, workload.context_length or adjustment.context_length)
        workload = workload.model_copy(update={"context_length": context})
    if adjustment.max_num_seqs is not None:
        sequences = min(adjustment.max_num_seqs, engine.max_num_seqs or adjustment.max_num_seqs)
        engine = engine.model_copy(update={"max_num_seqs": sequences})
        workload = workload.model_copy(update={"concurrency": min(workload.concurrency, sequences)})
    return spec.model_copy(update={"workload": workload, "engine": engine})
