"""Changes that would make it fit. Each is planned again by the same search and kept only if the answer is `Fits`.

Ranked by how little they change for the user (planning.changes). Single changes come first; pairs are tried only where
single ones leave room in the list. Most changes are seen to be too little from bounds (planning.outlook).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, combinations, islice
from typing import TYPE_CHECKING

from vllm_operator.planning.candidate import SMALLEST_CONTEXT
from vllm_operator.planning.changes import TENSOR_SIZE, Change, changes_of, concurrency_change, less_work
from vllm_operator.planning.decision import decide, obstacle_before_search
from vllm_operator.planning.outlook import Outlook, Work
from vllm_operator.planning.plan import Suggestion, Verdict
from vllm_operator.planning.sizing import question_of
from vllm_operator.planning.sorting import capacity_for
from vllm_operator.planning.wording import gpus_of_candidate, plural, share_gib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.candidate import Candidate
    from vllm_operator.planning.decision import Decision
    from vllm_operator.planning.need import MemoryRoom
    from vllm_operator.planning.request import Request

MAX_SUGGESTIONS = 5
WORTH_A_SECOND_CHANGE = 1.5
"""A pair is worth its second change when it leaves this many times the work that one change leaves."""


def suggest(decision: Decision, inventory: Inventory) -> tuple[Suggestion, ...]:
    """At most five verified changes for a deployment that does not fit as asked, the smallest first."""
    if decision.facts is None or decision.verdict is Verdict.FITS:
        return ()
    trial = _Trial(decision=decision, facts=decision.facts, inventory=inventory)
    singles = sorted((*changes_of(decision), *trial.less_work_after()), key=lambda change: change.cost)
    kept: list[tuple[Change, Decision]] = []
    settled: set[str] = set()
    for change in singles:
        if change.one_of in settled or len(kept) == MAX_SUGGESTIONS:
            continue
        answer = trial.sufficient(change)
        if answer is not None:
            kept.append((change, answer))
            settled |= {change.one_of} if change.one_of else set()
    sufficient = [change for change, _ in kept]
    insufficient = [change for change in singles if change not in sufficient and change.one_of not in settled]
    found = (_suggestion((change,), answer) for change, answer in kept)
    return tuple(islice(chain(found, _pairs(trial, insufficient, sufficient)), MAX_SUGGESTIONS))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """Tries changes of one deployment on the cluster as it is."""

    decision: Decision
    facts: ModelFacts
    inventory: Inventory
    _looked_at: dict[tuple[int, ...], tuple[tuple[Change, ...], Request, Outlook | None]] = field(default_factory=dict)
    """By the identities of the changes, which each entry keeps alive."""

    def sufficient(self, *changes: Change) -> Decision | None:
        """What is planned after these changes, if it fits and each is what it says; None otherwise."""
        request, outlook = self._after(changes)
        if not _may_start(outlook):
            return None
        answer = self._decide(request, with_hopeless=False)
        is_kept = answer.verdict is Verdict.FITS and all(_keeps_its_word(change, answer) for change in changes)
        return answer if is_kept else None

    def less_work_after(self, *changes: Change) -> Iterator[Change]:
        """Yield how much less would have to be asked for after these changes."""
        request, outlook = self._after(changes)
        held = outlook.most_work() if outlook is not None else Work()
        if _may_start(outlook):
            held = _widened(held, self._decide(request))
        yield from less_work(request, self.facts, held)

    def _after(self, changes: tuple[Change, ...]) -> tuple[Request, Outlook | None]:
        """The changed request and what it may hope for, looked at once."""
        key = tuple(map(id, changes))
        found = self._looked_at.get(key)
        if found is None:
            request = self.decision.request
            for change in changes:
                request = change.apply(request)
            found = self._looked_at[key] = (changes, request, self._outlook(request))
        return found[1:]

    def _decide(self, request: Request, *, with_hopeless: bool = True) -> Decision:
        if request is self.decision.request:
            return self.decision
        return decide(request, self.facts, self.inventory, with_hopeless=with_hopeless)

    def _outlook(self, request: Request) -> Outlook | None:
        """What the request may hope for; None where the planner may shrink it."""
        if request.policy.may_shrink:
            return None
        capacity = capacity_for(request.gpus, self.inventory)
        is_pointless = obstacle_before_search(request, self.facts, capacity) is not None
        return Outlook(question_of(request, self.facts, self.decision.family), () if is_pointless else capacity.classes)


def _may_start(outlook: Outlook | None) -> bool:
    """Whether planning it is worth its time; certain is only the opposite."""
    return outlook is None or outlook.starts_on_one_node() or outlook.may_start_on_several()


def _widened(held: Work, decision: Decision) -> Work:
    """What is held, or what candidates of a plan hold where GPUs are free for them, on several nodes too."""
    request, facts = decision.request, decision.facts
    assert facts is not None
    rooms = [room for candidate in decision.candidates if (room := _free_room(candidate, request.replicas))]
    asked = request.context_length
    length = min(SMALLEST_CONTEXT, facts.max_model_len) if asked is None else asked
    contexts = (room.max_context(request.concurrency, asked) for room in rooms) if asked is not None else ()
    return Work(
        sequences=max((held.sequences, *(room.max_concurrency(length) for room in rooms))),
        context=max((held.context, *contexts)),
    )


def _free_room(candidate: Candidate, replicas: int) -> MemoryRoom | None:
    return candidate.size.memory_room if candidate.size is not None and candidate.room.free >= replicas else None


def _keeps_its_word(change: Change, answer: Decision) -> bool:
    """Whether the answer has no more stages than a tensor-parallel size alone would take."""
    return change.one_of != TENSOR_SIZE or (answer.best is not None and answer.best.parallelism.pipeline == 1)


_Pair = tuple[Change, Change]


def _pairs(trial: _Trial, insufficient: list[Change], sufficient: list[Change]) -> Iterator[Suggestion]:
    """Yield pairs of changes that suffice only together, or that leave clearly more of the work than one alone.

    The cheapest first, and none is tried before it is asked for.
    """
    fixed = [change for change in insufficient if change.amount is None]
    pairs = sorted((*_with_less_work(trial, fixed, sufficient), *_together(fixed)), key=_cost)
    helped = bool(sufficient)
    for found in _verified(trial, pairs):
        helped = True
        yield found
    if not helped:
        yield from _verified(trial, sorted(_both_kinds_of_work(trial), key=_cost))


def _cost(pair: _Pair) -> float:
    return pair[0].cost + pair[1].cost


def _verified(trial: _Trial, pairs: Iterable[_Pair]) -> Iterator[Suggestion]:
    for pair in pairs:
        if (answer := trial.sufficient(*pair)) is not None:
            yield _suggestion(pair, answer)


def _with_less_work(trial: _Trial, fixed: list[Change], sufficient: list[Change]) -> Iterator[_Pair]:
    """Yield changes with the less work that is left after them, where it is clearly more than without them."""
    left_by_one = {change.lowered_field: change.amount for change in sufficient if change.amount is not None}
    for first in fixed:
        for second in trial.less_work_after(first):
            alone = left_by_one.get(second.lowered_field)
            if alone is None or (second.amount or 0) >= alone * WORTH_A_SECOND_CHANGE:
                yield first, second


def _together(fixed: list[Change]) -> Iterator[_Pair]:
    for first, second in combinations(fixed, 2):
        if first.one_of is None or first.one_of != second.one_of:
            yield first, second


def _both_kinds_of_work(trial: _Trial) -> Iterator[_Pair]:
    """Yield one sequence at a time with the context that is left for it: the last resort of a small cluster."""
    for first in concurrency_change(1, trial.decision.request):
        for second in trial.less_work_after(first):
            yield first, second


def _suggestion(changes: tuple[Change, ...], answer: Decision) -> Suggestion:
    patch: dict[str, object] = {}
    for change in changes:
        _merge(patch, change.patch)
    summary = " and ".join(change.summary for change in changes)
    return Suggestion(summary=summary, patch={"spec": patch}, effect=_effect(changes, answer))


def _merge(into: dict[str, object], patch: Mapping[str, object]) -> None:
    for key, value in patch.items():
        known = into.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            into[key] = {**known, **value}
        else:
            into[key] = value


def _effect(changes: tuple[Change, ...], answer: Decision) -> str:
    best = answer.best
    assert best is not None
    assert best.need is not None
    text = (
        f"fits on {gpus_of_candidate(best)}: "
        f"needs {share_gib(best.need)} per GPU; holds "
        f"{plural(best.concurrency, 'sequence')} of {plural(best.context_length, 'token')}"
    )
    return f"{text}; lowers quality slightly" if any(change.lowers_quality for change in changes) else text
