"""From a request to a decision: the candidates of the search, the chosen one, and the verdict that it carries.

Pure and cheap enough to be asked again for every suggestion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vllm_operator.planning.candidate import Candidate
from vllm_operator.planning.families import family_of
from vllm_operator.planning.memory import GIB, compute_weights_memory
from vllm_operator.planning.plan import Verdict
from vllm_operator.planning.refusals import refusals_of
from vllm_operator.planning.search import search
from vllm_operator.planning.sizing import question_of
from vllm_operator.planning.sorting import capacity_for
from vllm_operator.planning.source import parse_address
from vllm_operator.planning.tuning import Parallelism
from vllm_operator.planning.wording import need_of_host, plural

if TYPE_CHECKING:
    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.capacity import Capacity, ClassCapacity
    from vllm_operator.planning.families import Family
    from vllm_operator.planning.request import Request
    from vllm_operator.planning.sizing import Question

HOLDS = frozenset({Verdict.FITS, Verdict.FITS_IF_FREED, Verdict.FITS_WHEN_SCALED})
"""Verdicts for which a workload can be rendered from exact figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was found for a request; `request` is what it was decided for."""

    request: Request
    facts: ModelFacts | None
    family: Family | None
    capacity: Capacity
    candidates: tuple[Candidate, ...]
    verdict: Verdict
    obstacle: tuple[str, str] | None = None
    """Field and text of what stands in the way besides memory: nothing a bigger GPU would change."""

    @property
    def best(self) -> Candidate | None:
        """The chosen candidate, or the one that came closest."""
        return self.candidates[0] if self.candidates else None


def decide(request: Request, facts: ModelFacts | None, inventory: Inventory, *, with_hopeless: bool = True) -> Decision:
    """Find the best way to run what was asked for on what is there.

    Without the candidates that are seen to be hopeless, the answer is the same where something fits.
    """
    capacity = capacity_for(request.gpus, inventory)
    family = _family(request, facts)
    blank = Decision(
        request=request, facts=facts, family=family, capacity=capacity, candidates=(), verdict=Verdict.DOES_NOT_FIT
    )
    if (obstacle := obstacle_before_search(request, facts, capacity)) is not None:
        return replace(blank, obstacle=obstacle)
    if facts is None or not facts.architecture:
        return _without_facts(replace(blank, facts=None), _parameters_billions(request, facts))
    candidates = _candidates(question_of(request, facts, family), capacity, with_hopeless=with_hopeless)
    if not candidates:
        return blank
    return replace(blank, candidates=candidates, verdict=candidates[0].verdict, obstacle=_obstacle(candidates))


def obstacle_before_search(request: Request, facts: ModelFacts | None, capacity: Capacity) -> tuple[str, str] | None:
    """Field and text of what makes a search pointless, whatever the memory; None where there is nothing of it."""
    refused = next(refusals_of(request), None)
    if refused is not None:
        return refused.field, refused.why
    if not capacity.classes:
        return "spec.gpu", _why_no_class(request, capacity)
    if facts is None or not facts.architecture or request.context_length is None:
        return None
    if request.context_length <= facts.max_model_len:
        return None
    asked, own_limit = request.context_length, facts.max_model_len
    text = f"{asked:,} tokens are asked for, the model ends at {own_limit:,} and vLLM refuses more"
    return "spec.workload.contextLength", text


def _candidates(question: Question, capacity: Capacity, *, with_hopeless: bool) -> tuple[Candidate, ...]:
    """Search as asked first; only where that fails and the user allows it, with less."""
    request = question.request
    if not request.policy.may_shrink:
        return tuple(search(question, capacity.classes, with_hopeless=with_hopeless))
    as_asked = replace(request, policy=replace(request.policy, may_shrink=False))
    found = search(replace(question, request=as_asked), capacity.classes)
    if found[0].verdict in HOLDS:
        return tuple(found)
    return tuple(search(question, capacity.classes))


def _family(request: Request, facts: ModelFacts | None) -> Family | None:
    if facts is None or not facts.model_type:
        return None
    return family_of((facts.model_type,), parse_address(request.model_uri).name)


def _obstacle(candidates: tuple[Candidate, ...]) -> tuple[str, str] | None:
    best = candidates[0]
    if best.verdict is not Verdict.DOES_NOT_FIT:
        return None
    if best.problems:
        return "spec.engine", "; ".join(best.problems)
    if best.need is not None and best.need.fits:
        wanted, most = best.parallelism.gpus, best.capacity.most_gpus_on_a_node
        if wanted <= most:
            host = need_of_host(best.capacity.host, wanted)
            return (
                "spec.podTemplate",
                f"one replica asks for {host}, and no node with {plural(wanted, 'GPU')} has as much",
            )
        return "spec.engine", f"one replica takes {wanted} GPUs, and no node has more than {most} of them"
    return None


def _parameters_billions(request: Request, facts: ModelFacts | None) -> float | None:
    if facts is not None and facts.parameters is not None:
        return facts.parameters / 1e9
    return request.parameters_billions


def _without_facts(blank: Decision, parameters_billions: float | None) -> Decision:
    """Judge by the parameter count alone: it can refuse what is certainly too big, never promise that it fits."""
    request = blank.request
    candidates = sorted(
        (_unjudged(request, capacity) for capacity in blank.capacity.classes),
        key=lambda candidate: (not candidate.placeable, -(candidate.capacity.gpu_class.memory_bytes or 0)),
    )
    blank = replace(blank, candidates=tuple(candidates), verdict=Verdict.UNKNOWN)
    if parameters_billions is None:
        return blank
    try:
        weights_bytes = compute_weights_memory(parameters_billions, request.dtype, request.quantization)
    except ValueError:
        return blank
    budgets = [_budget_bytes(request, capacity) for capacity in blank.capacity.classes]
    if None in budgets:
        return blank
    largest = max(budget for budget in budgets if budget is not None)
    if weights_bytes <= largest:
        sized = [_sized(request, candidate, weights_bytes) for candidate in candidates]
        return replace(
            blank, candidates=tuple(candidate for candidate in sized if candidate is not None) or blank.candidates
        )
    text = (
        f"the weights alone take {weights_bytes / GIB:.1f} GiB ({parameters_billions:g} billion parameters), "
        f"the largest node offers {largest / GIB:.1f} GiB"
    )
    return replace(blank, verdict=Verdict.DOES_NOT_FIT, obstacle=("spec.model.parametersBillions", text))


def _budget_bytes(request: Request, capacity: ClassCapacity) -> int | None:
    """What all GPUs of the largest node of a class offer together."""
    memory_bytes = capacity.gpu_class.memory_bytes
    if memory_bytes is None:
        return None
    number = capacity.most_gpus_on_a_node if capacity.gpu_class.joins_devices else 1
    return int(memory_bytes * number * request.policy.gpu_memory_utilization)


def _unjudged(request: Request, capacity: ClassCapacity, tensor: int | None = None) -> Candidate:
    spread = Parallelism(
        tensor=request.tensor_parallel_size or tensor or 1,
        pipeline=request.pipeline_parallel_size or 1,
        data=request.data_parallel_size or 1,
        expert=bool(request.expert_parallel),
    )
    room = capacity.room(spread.gpus)
    return Candidate(
        capacity=capacity,
        parallelism=spread,
        room=room,
        verdict=Verdict.UNKNOWN,
        concurrency=request.concurrency,
        placeable=not request.gpus.cannot_tell(capacity.gpu_class),
    )


def _sized(request: Request, candidate: Candidate, weights_bytes: int) -> Candidate | None:
    """Give a candidate the fewest GPUs that hold the weights and leave room for the rest; None if it has too few."""
    memory_bytes = candidate.capacity.gpu_class.memory_bytes
    most = candidate.capacity.most_gpus_on_a_node if candidate.capacity.gpu_class.joins_devices else 1
    tensor = 1
    while memory_bytes is not None and tensor <= most:
        if weights_bytes <= memory_bytes * tensor * request.policy.gpu_memory_utilization * WEIGHTS_SHARE:
            return _unjudged(request, candidate.capacity, tensor)
        tensor *= 2
    return None


WEIGHTS_SHARE = 0.75
"""Share of the budget that weights may take where nothing is known of the KV cache."""


def _why_no_class(request: Request, capacity: Capacity) -> str:
    wanted = request.gpus.resource_name or "GPU"
    if not capacity.excluded:
        others = f"; the cluster has {', '.join(capacity.other_resources)}" if capacity.other_resources else ""
        return f"no node offers {wanted}{others}"
    counts = {
        exclusion: len({offer.node.name for offer in offers}) for exclusion, offers in sorted(capacity.excluded.items())
    }
    parts = ", ".join(f"{exclusion.field} excludes {plural(number, 'node')}" for exclusion, number in counts.items())
    return f"no node is left to choose from: {parts}"
