"""What vLLM reported beside what was predicted: the figures of `status.observed`, and what the user should hear of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from vllm_operator.api.conditions import (
    CAPACITY_BELOW_WORKLOAD,
    ESTIMATE_OFF,
    OBSERVATION_IGNORED,
    OBSERVATION_MISSING,
)
from vllm_operator.api.status import ObservedStatus
from vllm_operator.models.caches import AttentionCache, LatentCache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_operator.models.engine_report import EngineReport
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.plan import Plan

TOLERATED_ERROR_PERCENT: Final = 5.0
"""An error below is within what users plan for; the measured starts have a median of a tenth of it."""
_DECIMALS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one pod's server reported, or why that is not used."""

    pod: str
    plan_hash: str
    """Plan that the pod was rendered from."""
    reports: tuple[EngineReport, ...] = ()
    problem: str = ""
    missing: bool = False
    """Whether the problem is that nothing could be read, and not what was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was predicted for the engines of one plan, with nothing observed in it; per engine and GPU."""

    plan_hash: str
    kv_cache_tokens: int
    kv_cache_bytes: int
    max_model_len: int | None
    uniform: bool
    """Whether every layer keeps the same for each token, so that tokens are blocks × block size."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the user should hear of: reason of an Event, and the text of Event and warning."""

    reason: str
    text: str

    @property
    def warns(self) -> bool:
        """Whether the model may run otherwise than was promised; that nobody could look is no sign of it."""
        return self.reason != OBSERVATION_MISSING


def prediction_of(plan: Plan, facts: ModelFacts | None) -> Prediction | None:
    """Return what a plan predicts; None where it could not be computed."""
    if plan.memory is None or not plan.memory.kv_cache_tokens or not plan.memory.kv_cache_bytes:
        return None
    return Prediction(
        plan_hash=plan.hash,
        kv_cache_tokens=plan.memory.kv_cache_tokens,
        kv_cache_bytes=plan.memory.kv_cache_bytes,
        max_model_len=plan.max_model_len,
        uniform=facts is not None and _is_uniform(facts),
    )


def _is_uniform(facts: ModelFacts) -> bool:
    caches = {cache for layer in facts.caches for cache in layer}
    if len(caches) != 1:
        return False
    match next(iter(caches)):
        case AttentionCache() as cache:
            return cache.window is None and cache.chunk is None
        case LatentCache():
            return True
        case _:
            return False


def observed_of(
    readings: Sequence[Reading], previous: ObservedStatus | None, prediction: Prediction | None
) -> ObservedStatus | None:
    """Return what is known of the running engines: of those with the most replicas, where two plans run at once.

    Without a reading it stays as it was. The prediction of another plan than the pods' is not compared with them; of
    pods that run on with an earlier plan it is what was written when they had started.
    """
    if not readings:
        return previous
    counted = Counter(reading.plan_hash for reading in readings)
    plan_hash = max(counted, key=lambda found: (counted[found], found))
    those = [reading for reading in readings if reading.plan_hash == plan_hash]
    good = [reading for reading in those if reading.reports]
    problem, problem_reason = _problem(those)
    if not good:
        known = previous if previous is not None and previous.plan_hash == plan_hash else None
        problems = {"problem": problem, "problem_reason": problem_reason}
        return (known or ObservedStatus(plan_hash=plan_hash)).model_copy(update=problems)
    matches = prediction if prediction is not None and prediction.plan_hash == plan_hash else None
    uniform = matches is not None and matches.uniform
    tokens = [found for one in good for report in one.reports if (found := report.tokens(uniform=uniform))]
    predicted = matches.kv_cache_tokens if matches is not None else _predicted_before(previous, plan_hash)
    least = min(tokens, default=None)
    return ObservedStatus(
        plan_hash=plan_hash,
        replicas=len(good),
        kv_cache_tokens=least,
        most_kv_cache_tokens=max(tokens, default=None),
        max_concurrency=_concurrency(good, matches),
        gpu_memory_utilization=good[0].reports[0].gpu_memory_utilization,
        predicted_kv_cache_tokens=predicted,
        estimate_error_percent=_error_percent(predicted, least),
        problem=problem,
        problem_reason=problem_reason,
    )


def _problem(
    readings: Sequence[Reading],
) -> tuple[str | None, Literal["ObservationIgnored", "ObservationMissing"] | None]:
    """Return the problem of one pod and its reason: nonsense is said before silence."""
    found = min((one for one in readings if one.problem), key=lambda one: one.missing, default=None)
    if found is None:
        return None, None
    return f"pod {found.pod}: {found.problem}", "ObservationMissing" if found.missing else "ObservationIgnored"


def _predicted_before(previous: ObservedStatus | None, plan_hash: str) -> int | None:
    same = previous is not None and previous.plan_hash == plan_hash
    return previous.predicted_kv_cache_tokens if previous is not None and same else None


def _error_percent(predicted: int | None, observed: int | None) -> float | None:
    """Positive where more was predicted than there is."""
    if predicted is None or observed is None:
        return None
    return round(100 * (predicted - observed) / observed, _DECIMALS)


def _concurrency(readings: Sequence[Reading], prediction: Prediction | None) -> float | None:
    """Sequences of the full length that one replica holds, over all its engines: of the replica with the fewest."""
    held = [_held_by_all(reading, prediction) for reading in readings]
    known = [concurrency for concurrency in held if concurrency is not None]
    return round(min(known), _DECIMALS) if known else None


def _held_by_all(reading: Reading, prediction: Prediction | None) -> float | None:
    held = [_held(report, prediction) for report in reading.reports]
    known = [concurrency for concurrency in held if concurrency is not None]
    return sum(known) if len(known) == len(held) else None


def _held(report: EngineReport, prediction: Prediction | None) -> float | None:
    if report.max_concurrency is not None:
        return report.max_concurrency
    if prediction is None or not prediction.max_model_len:
        return None
    tokens = report.tokens(uniform=prediction.uniform)
    return tokens / prediction.max_model_len if tokens is not None else None


def findings_of(observed: ObservedStatus | None, plan: Plan) -> Iterator[Finding]:
    """Yield what the user should hear of; the same as long as the observation is the same."""
    if observed is None:
        return
    error, tokens, predicted = (
        observed.estimate_error_percent,
        observed.kv_cache_tokens,
        observed.predicted_kv_cache_tokens,
    )
    if error is not None and tokens and predicted and abs(error) > TOLERATED_ERROR_PERCENT:
        yield Finding(
            ESTIMATE_OFF,
            f"vLLM reports a KV cache of {tokens:,} tokens where {predicted:,} were predicted ({error:+.1f} %); "
            "later plans of the same start use what it reports",
        )
    held, length = observed.max_concurrency, plan.max_model_len
    if observed.plan_hash == plan.hash and length and held is not None and held < plan.concurrency:
        yield Finding(CAPACITY_BELOW_WORKLOAD, _shortage(held, plan.concurrency, length))
    if observed.problem and observed.problem_reason == OBSERVATION_MISSING:
        yield Finding(
            OBSERVATION_MISSING,
            f"the model is served, but its KV cache is not compared with the prediction: {observed.problem}; see that "
            "NetworkPolicies and meshes let the operator reach the pod's port, and that the server has metrics",
        )
    elif observed.problem:
        yield Finding(OBSERVATION_IGNORED, f"what vLLM reports of its KV cache is not used: {observed.problem}")


def _shortage(held: float, wanted: int, length: int) -> str:
    shorter = int(length * held / wanted)
    fewer = f"spec.workload.concurrency to {int(held)} or " if held >= 1 else ""
    return (
        f"vLLM reports room for {held:g} sequences of {length:,} tokens at once where {wanted} are declared: "
        f"lower {fewer}spec.workload.contextLength to about {shorter:,}"
    )
