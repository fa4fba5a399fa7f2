"""How far predictions are from measured starts: in sample, and with a group of starts left out of the fit."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.accuracy.fit import fit
from tests.accuracy.starts import GIB, Start, predicted, starts

from vllm_operator.models.memory.constants import constants_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.accuracy.fit import Constants

    from vllm_operator.models.memory import MemoryPrediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One prediction against its measurement."""

    start: Start
    measured: float
    predicted: float
    covered: bool
    """Whether the 80 % interval holds the measurement (KV memory only)."""

    @property
    def percent(self) -> float:
        """Signed: positive promises too much."""
        return 100 * (self.predicted - self.measured) / self.measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Figures of a set of misses, in percent of the measured value."""

    count: int
    mean: float
    median: float
    ninth_decile: float
    worst: float
    over_promises: int
    covered: int


def summary(misses: Sequence[Miss]) -> Summary:
    """Mean, median, 90th percentile and worst absolute error; promises more than 5 % too high; intervals that hold."""
    absolute = sorted(abs(miss.percent) for miss in misses)
    return Summary(
        count=len(misses),
        mean=statistics.mean(absolute),
        median=statistics.median(absolute),
        ninth_decile=absolute[min(len(absolute) - 1, int(0.9 * len(absolute)))],
        worst=absolute[-1],
        over_promises=sum(miss.percent > 5 for miss in misses),
        covered=sum(miss.covered for miss in misses),
    )


def kv_misses(chosen: Iterable[Start], constants: Constants | None = None) -> list[Miss]:
    """KV memory, predicted from the question alone: the weights are predicted too."""
    misses = []
    for start in chosen:
        prediction = predict(start, constants) if "kv" in start.judged else None
        if prediction is not None:
            measured = start.measured["kv_cache_gib"]
            low, high = prediction.reported.kv_cache_bytes_interval
            misses.append(
                Miss(
                    start=start,
                    measured=measured,
                    predicted=prediction.reported.kv_cache_bytes / GIB,
                    covered=low / GIB <= measured <= high / GIB,
                )
            )
    return misses


def weight_misses(chosen: Iterable[Start]) -> list[Miss]:
    """Weights as loaded, per GPU."""
    misses = []
    for start in chosen:
        prediction = predict(start) if "weights" in start.judged else None
        if prediction is not None:
            measured = start.measured["weights_gib"]
            misses.append(
                Miss(start=start, measured=measured, predicted=prediction.reported.stage.weights / GIB, covered=True)
            )
    return misses


def wrong_verdicts(chosen: Iterable[Start]) -> tuple[list[str], list[str]]:
    """Ids of starts predicted to run that failed, and of those predicted to fail that ran."""
    false_fits, false_refusals = [], []
    for start in chosen:
        prediction = predict(start) if "verdict" in start.judged else None
        if prediction is None or prediction.starts == start.started:
            continue
        (false_fits if prediction.starts else false_refusals).append(start.id)
    return false_fits, false_refusals


def left_out(group: Callable[[Start], str]) -> list[Miss]:
    """KV misses of each group's starts, predicted with constants fitted without that group."""
    everything = starts()
    misses: list[Miss] = []
    for name in sorted({group(start) for start in everything if "kv" in start.judged}):
        held = [start for start in everything if group(start) == name]
        rest = [start for start in everything if group(start) != name]
        misses += kv_misses(held, fit(rest))
    return misses


def predict(start: Start, constants: Constants | None = None) -> MemoryPrediction | None:
    """The prediction of a start; None where its GPU is not known."""
    row = constants[constants_for(start.resolved.version).since] if constants and start.resolved else None
    return predicted(start, row)
