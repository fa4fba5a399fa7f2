"""Fits the constants table to measured starts, so that it can be fitted again without some of them.

Least absolute error, one coefficient at a time: each start says what the coefficient would have to be for it to be
right, and the value with the smallest sum of errors wins. A coefficient that no start speaks of keeps the value of the
range of versions before it, as an unknown version falls to the nearest known.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.accuracy.starts import GIB, Start, predicted

from vllm_operator.models.memory.constants import TABLE, MemoryConstants, constants_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FITTED = (
    "sampler_bytes_per_logit",
    "forward_hidden_copies",
    "non_torch_gib",
    "non_torch_pipeline_gib",
    "fabric_pair_gib",
    "fabric_quad_gib",
    "bus_gib",
    "bus_quad_gib",
    "graphs_inside_budget",
    "new_runner_graphs_inside_budget",
)
SWEEPS = 3
STAY_CLOSE_GIB = 0.1
"""What a coefficient's doubling against its prior costs: one thin log does not move it far, five do."""

UNSEEN_RESIDUAL_GIB = 0.8
UNSEEN_ACTIVATION_DOUBT = 0.5
UNSEEN_FABRIC_DOUBT_GIB = 0.8
FEW_STARTS = 3
"""Spreads of a range of versions with fewer starts than that: what neighbours in the table differ by."""

BOUNDS = {
    "sampler_bytes_per_logit": (4.0, 40.0),
    "forward_hidden_copies": (2.0, 8.0),
    "graphs_inside_budget": (0.0, 2.0),
    "new_runner_graphs_inside_budget": (0.0, 2.0),
    "bus_gib": (0.05, 4.0),
    "bus_quad_gib": (0.05, 4.0),
}

FROM_CODE: dict[tuple[str, tuple[int, int, int]], float] = {
    ("sampler_bytes_per_logit", (0, 0, 0)): 36.0,
    ("sampler_bytes_per_logit", (0, 17, 0)): 12.0,
    ("graphs_inside_budget", (0, 21, 0)): 1.0,
    ("new_runner_graphs_inside_budget", (0, 28, 0)): 1.0,
}
"""Priors that vLLM's code gives where a version changed it: a sort of all logits, three live float32 copies; graphs
charged, by the new model runner too. Everything else starts from the range of versions before."""

Constants = dict[tuple[int, int, int], MemoryConstants]


def fit(starts: Iterable[Start]) -> Constants:
    """One row for each range of versions, by its `since`."""
    by_range: dict[tuple[int, int, int], list[Start]] = defaultdict(list)
    for start in starts:
        if start.resolved is not None and start.started and start.resolved.version.stated:
            by_range[constants_for(start.resolved.version).since].append(start)
    fitted: Constants = {}
    before = TABLE[0]
    for shipped in TABLE:
        prior = _prior(shipped, before)
        seen = by_range[shipped.since]
        if sum("kv" in start.judged for start in seen) < FEW_STARTS:
            prior = replace(
                prior,
                residual_gib=max(prior.residual_gib, UNSEEN_RESIDUAL_GIB),
                activation_doubt=max(prior.activation_doubt, UNSEEN_ACTIVATION_DOUBT),
                fabric_doubt_gib=max(prior.fabric_doubt_gib, UNSEEN_FABRIC_DOUBT_GIB),
            )
        before = _fit_range(seen, prior)
        fitted[shipped.since] = before
    return fitted


def residuals(start: Start, constants: MemoryConstants) -> list[float]:
    """Errors in GiB of what the start reports: activation, non-torch, and what weights and KV memory leave for both."""
    prediction = predicted(start, constants)
    assert prediction is not None
    stage, measured = prediction.reported.stage, start.measured
    errors = []
    if "activation_gib" in measured and constants.since < (0, 26, 0):
        errors.append(stage.activation / GIB - measured["activation_gib"])
    if "non_torch_gib" in measured:
        errors.append(stage.non_torch / GIB - measured["non_torch_gib"])
    if "kv_cache_gib" in measured and "weights_gib" in measured:
        taken = stage.activation + stage.non_torch + stage.graphs_charged
        left = prediction.requested_bytes / GIB - measured["weights_gib"] - measured["kv_cache_gib"]
        errors.append(taken / GIB - left)
    return errors


def _prior(shipped: MemoryConstants, before: MemoryConstants) -> MemoryConstants:
    changes = {name: FROM_CODE.get((name, shipped.since), getattr(before, name)) for name in FITTED}
    if shipped.graphs_inside_budget == 0:
        changes["graphs_inside_budget"] = 0.0
    return replace(shipped, **changes)


def _fit_range(starts: Sequence[Start], prior: MemoryConstants) -> MemoryConstants:
    current = prior
    for _ in range(SWEEPS):
        for name in (name for name in FITTED if getattr(prior, name) > 0):
            current = _best(starts, current, name, getattr(prior, name))
    return current


def _best(starts: Sequence[Start], current: MemoryConstants, name: str, prior: float) -> MemoryConstants:
    candidates = {getattr(current, name), prior, *_implied(starts, current, name)}

    def loss(value: float) -> float:
        tried = _with(current, name, value)
        errors = (abs(error) for start in starts for error in residuals(start, tried))
        return sum(errors) + STAY_CLOSE_GIB * abs(value - prior) / prior

    return _with(current, name, min(sorted(candidates), key=loss))


def _implied(starts: Sequence[Start], current: MemoryConstants, name: str) -> Iterable[float]:
    """For each error, the value of the coefficient at which it would vanish."""
    here = getattr(current, name)
    step = max(abs(here), 0.1) * 0.1
    moved = _with(current, name, here + step)
    for start in starts:
        pairs = zip(residuals(start, current), residuals(start, moved), strict=True)
        for error, error_moved in pairs:
            slope = (error_moved - error) / step
            if abs(slope) > 1e-6:
                low, high = BOUNDS.get(name, (0.0, 4.0))
                yield min(high, max(low, here - error / slope))


def _with(constants: MemoryConstants, name: str, value: float) -> MemoryConstants:
    changes: Mapping[str, float] = {name: value}
    return replace(constants, **changes)
