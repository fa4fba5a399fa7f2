"""What was observed, put to use: the same start is known, a similar one is off by about as much.

Only the memory that is shown and its warnings depend on it: neither the verdict nor a flag does, so that nothing that
is learned changes what runs or what is refused (docs/decisions/0018).
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from vllm_operator.api.observations import MOST_OBSERVATIONS, Observation
from vllm_operator.models.memory.interval import KNOWN_CARD_DOUBT
from vllm_operator.planning.decision import HOLDS
from vllm_operator.planning.memory import GIB
from vllm_operator.planning.wording import have_gib, need_gib, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_operator.api.observations import ObservationKey
    from vllm_operator.api.status import MemoryBreakdown, ObservedStatus
    from vllm_operator.planning.observing import Prediction
    from vllm_operator.planning.plan import Plan

BASIS: Final = "Observed"
LARGEST_RESIDUAL_SHARE: Final = 0.25
"""Of the GPU's memory. What is off by more is another build or another device than was planned for, and says nothing of
others."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
LEAST_RESIDUAL_GIB: Final = 0.05
"""A residual below is within what two identical starts differ by, and is not worth another figure."""

SimilarityClass = tuple[object, ...]
_Fields = tuple[object, ...]


class Observations:
    """What was observed, at most `MOST_OBSERVATIONS` of it; never changes: `with_one` returns another."""

    def __init__(self, observations: Iterable[Observation] = ()) -> None:
        self._by_key: dict[_Fields, Observation] = {}
        for one in sorted(observations, key=_age, reverse=True):
            known = self._by_key.get(_fields(one.key))
            if known is not None or len(self._by_key) < MOST_OBSERVATIONS:
                self._by_key[_fields(one.key)] = one if known is None else merged(known, one)

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Observation]:
        return iter(self._by_key.values())

    def of(self, key: ObservationKey) -> Observation | None:
        """Return what was observed of exactly this start; of any commit of the model where the key names none.

        Off the network a plan has only a branch's name, or none.
        """
        known = self._by_key.get(_fields(key))
        if known is not None or (key.revision is not None and _COMMIT.fullmatch(key.revision)):
            return known
        return self._of_any_commit.get(_fields(key)[1:])

    def with_one(self, fresh: Observation) -> Observations:
        """Return these with one more; themselves where it says nothing new."""
        fields = _fields(fresh.key)
        known = self._by_key.get(fields)
        one = merged(known, fresh) if known is not None else fresh
        if one is known:
            return self
        more = Observations()
        more._by_key = {**self._by_key, fields: one}
        if len(more._by_key) > MOST_OBSERVATIONS:
            del more._by_key[min(more._by_key, key=lambda found: _age(more._by_key[found]))]
        return more

    @cached_property
    def _of_any_commit(self) -> Mapping[_Fields, Observation]:
        """The newest observation by all of its key but the commit."""
        return {
            fields[1:]: self._by_key[fields] for fields in sorted(self._by_key, key=lambda one: _age(self._by_key[one]))
        }

    def residuals_bytes(self, key: ObservationKey, *, predicted_by: str) -> tuple[int, ...]:
        """Return by how much similar starts had more (less: negative) than predicted, as this version predicts."""
        return self._residuals.get((predicted_by, *_similarity(key)), ())

    @cached_property
    def _residuals(self) -> Mapping[SimilarityClass, tuple[int, ...]]:
        found: dict[SimilarityClass, list[int]] = {}
        for one in self._by_key.values():
            residual = one.kv_cache_bytes - one.predicted_kv_cache_bytes
            if abs(residual) <= LARGEST_RESIDUAL_SHARE * one.key.gpu_memory_bytes:
                found.setdefault((one.predicted_by, *_similarity(one.key)), []).append(residual)
        return {similar: tuple(residuals) for similar, residuals in found.items()}


def _fields(key: ObservationKey) -> _Fields:
    """Return a key's fields, the commit first; many times as fast to compare as the model."""
    return (key.revision, *(value for name, value in key if name != "revision"))


def _age(observation: Observation) -> str:
    return observation.observed_at


def _similarity(key: ObservationKey) -> SimilarityClass:
    """Return what starts have in common whose memory is off for the same causes: the device, the engine, its links."""
    release = tuple(key.engine_version.removeprefix("v").split(".")[:2])
    repository = key.image.partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    several = key.tensor_parallel_size > 1, key.pipeline_parallel_size > 1
    return key.resource_name, key.gpu_product, key.gpu_memory_bytes, release, repository, several


def merged(known: Observation, fresh: Observation) -> Observation:
    """Return what two observations of one start say together; `known` itself where the other says nothing new.

    The least and the most are kept, so that figures which differ a little from start to start come to rest.
    """
    least = min(known, fresh, key=lambda one: one.kv_cache_tokens)
    most_tokens = max(known.most_kv_cache_tokens, fresh.most_kv_cache_tokens)
    newer = fresh if fresh.observed_at >= known.observed_at else known
    same_prediction = (known.predicted_by, known.predicted_kv_cache_tokens, known.predicted_kv_cache_bytes) == (
        newer.predicted_by,
        newer.predicted_kv_cache_tokens,
        newer.predicted_kv_cache_bytes,
    )
    if least.kv_cache_tokens == known.kv_cache_tokens and most_tokens == known.most_kv_cache_tokens and same_prediction:
        return known
    return newer.model_copy(
        update={
            "kv_cache_tokens": least.kv_cache_tokens,
            "kv_cache_bytes": least.kv_cache_bytes,
            "most_kv_cache_tokens": most_tokens,
        }
    )


def observation_of(
    key: ObservationKey | None,
    prediction: Prediction | None,
    observed: ObservedStatus | None,
    *,
    predicted_by: str,
    now: str,
    source: str,
) -> Observation | None:
    """Return what the pods of a plan teach; None where they run another plan, or report what cannot be true.

    vLLM states tokens, not bytes: both are blocks of one size, so that tokens differ as bytes do.
    """
    if key is None or prediction is None or observed is None or observed.plan_hash != prediction.plan_hash:
        return None
    if not observed.kv_cache_tokens or not observed.most_kv_cache_tokens:
        return None
    kv_cache_bytes = prediction.kv_cache_bytes * observed.kv_cache_tokens // prediction.kv_cache_tokens
    if not 0 < kv_cache_bytes <= key.gpu_memory_bytes:  # no cache of the model that was planned
        return None
    return Observation(
        key=key,
        kv_cache_tokens=observed.kv_cache_tokens,
        most_kv_cache_tokens=observed.most_kv_cache_tokens,
        kv_cache_bytes=kv_cache_bytes,
        predicted_kv_cache_tokens=prediction.kv_cache_tokens,
        predicted_kv_cache_bytes=prediction.kv_cache_bytes,
        predicted_by=predicted_by,
        observed_at=now,
        source=source,
    )


@dataclass(frozen=True, slots=True)
class Calibration:
    """A plan's memory as observations correct it, and on how many of them that rests."""

    memory: MemoryBreakdown
    observations: int


def calibrated(plan: Plan, key: ObservationKey | None, observations: Observations, *, predicted_by: str) -> Plan:
    """Return the plan with what is known of such starts in its memory and its warnings; all else stays as it is."""
    calibration = calibration_of(plan, key, observations, predicted_by=predicted_by)
    if calibration is None:
        return plan
    warning = _warning(plan, calibration)
    warnings = (*plan.warnings, warning) if warning is not None else plan.warnings
    return replace(plan, memory=calibration.memory, warnings=warnings)


def calibration_of(
    plan: Plan, key: ObservationKey | None, observations: Observations, *, predicted_by: str
) -> Calibration | None:
    """Return the corrected memory; None where nothing was observed that says anything of this plan."""
    memory = plan.memory
    if memory is None or key is None or not memory.kv_cache_bytes or not memory.kv_cache_tokens:
        return None
    same = observations.of(key)
    if same is not None:
        return Calibration(_as_observed(memory, same), 1)
    residuals = observations.residuals_bytes(key, predicted_by=predicted_by)
    if not residuals:
        return None
    residual = round(statistics.median(residuals))
    if abs(residual) < LEAST_RESIDUAL_GIB * GIB:
        return None
    return Calibration(_corrected(memory, residual), len(residuals))


def _as_observed(memory: MemoryBreakdown, same: Observation) -> MemoryBreakdown:
    """The figures of the poorest start; the interval reaches over all that were seen, and what starts differ by."""
    doubt = round(KNOWN_CARD_DOUBT * memory.requested_bytes)
    most_bytes = same.kv_cache_bytes * same.most_kv_cache_tokens // same.kv_cache_tokens
    return memory.model_copy(
        update={
            "kv_cache_bytes": same.kv_cache_bytes,
            "kv_cache_tokens": same.kv_cache_tokens,
            "kv_cache_interval_bytes": [max(0, same.kv_cache_bytes - doubt), most_bytes + doubt],
            "basis": BASIS,
            "confidence": "Exact",
        }
    )


def _corrected(memory: MemoryBreakdown, residual_bytes: int) -> MemoryBreakdown:
    """The prediction moved by the residual of others; its interval grows over both, for another model is another."""
    corrected = max(0, memory.kv_cache_bytes + residual_bytes)
    low, high = memory.kv_cache_interval_bytes or [memory.kv_cache_bytes] * 2
    return memory.model_copy(
        update={
            "kv_cache_bytes": corrected,
            "kv_cache_tokens": memory.kv_cache_tokens * corrected // memory.kv_cache_bytes,
            "kv_cache_interval_bytes": [
                max(0, min(low, low + residual_bytes)),
                max(high, high + residual_bytes),
            ],
            "basis": f"{memory.basis}, {BASIS} elsewhere",
            "confidence": "Estimated",
        }
    )


def _warning(plan: Plan, calibration: Calibration) -> str | None:
    """Say so where the workload does not hold in what is observed to be left."""
    memory = calibration.memory
    if plan.verdict not in HOLDS or memory.kv_cache_bytes >= memory.kv_cache_needed_bytes:
        return None
    left, need = have_gib(memory.kv_cache_bytes), need_gib(memory.kv_cache_needed_bytes)
    share = int(100 * memory.kv_cache_bytes / memory.kv_cache_needed_bytes)
    seen = (
        f"vLLM was observed to leave {left} GiB for the KV cache of this start"
        if memory.basis == BASIS
        else f"by {plural(calibration.observations, 'observation')} of similar starts vLLM leaves {left} GiB"
        " for the KV cache"
    )
    return (
        f"{seen}, and the workload with its margins needs {need} GiB: lower spec.workload.contextLength or "
        f"spec.workload.concurrency to {share} % of what it is"
    )
