"""What one GPU must hold, and how the risk takes into account that a prediction may be too good."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.planning.fleets import LLAMA_8B, facts, inventory, node, spec

from vllm_operator.planning.decide import plan
from vllm_operator.planning.memory import GIB
from vllm_operator.planning.need import Need
from vllm_operator.planning.plan import OomRisk, Plan, Verdict

ROOMY = Need(
    vram_bytes=80 * GIB,
    budget_bytes=72 * GIB,
    weights_bytes=16 * GIB,
    kv_cache_bytes=40 * GIB,
    overhead_bytes=4 * GIB,
    wanted_headroom_bytes=0,
)


@pytest.mark.parametrize(
    ("low_gib", "risk"),
    [
        pytest.param(None, OomRisk.LOW, id="overhead-set-by-the-user"),
        pytest.param(48, OomRisk.LOW, id="lower-end-holds-it"),
        pytest.param(40, OomRisk.LOW, id="lower-end-just-holds-it"),
        pytest.param(39.9, OomRisk.HIGH, id="lower-end-does-not-hold-it"),
    ],
)
def test_the_risk_is_high_where_the_lower_end_does_not_hold_the_cache(low_gib: float | None, risk: OomRisk) -> None:
    low_bytes = None if low_gib is None else int(low_gib * GIB)
    assert replace(ROOMY, kv_cache_low_bytes=low_bytes).risk is risk


def test_a_doubtful_prediction_does_not_change_what_fits() -> None:
    doubtful = replace(ROOMY, kv_cache_low_bytes=0)
    assert (doubtful.risk, doubtful.fits, doubtful.headroom_bytes) == (OomRisk.HIGH, True, 12 * GIB)


def _on_an_l4(**policy: object) -> Plan:
    wish = {"workload": {"contextLength": 16384, "concurrency": 1}, "policy": policy}
    return plan(spec(LLAMA_8B, **wish), facts(LLAMA_8B), inventory(node("L4", "l4", 1)))


def test_a_plan_within_the_doubt_of_its_prediction_is_risky_unless_the_user_sets_the_overhead() -> None:
    predicted, formula = _on_an_l4(), _on_an_l4(overheadModel="Formula")
    assert (predicted.verdict, predicted.oom_risk) == (Verdict.FITS, OomRisk.HIGH)
    assert (formula.verdict, formula.oom_risk) == (Verdict.FITS, OomRisk.MEDIUM)
