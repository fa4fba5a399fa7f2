"""What was observed changes figures and warnings of later plans, and nothing that is rendered or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.planning.fleets import LLAMA_8B, facts, inventory, node, spec

from vllm_operator.api.observations import MOST_OBSERVATIONS, Observation
from vllm_operator.api.status import ObservedStatus
from vllm_operator.planning.calibration import Observations, calibrated, merged, observation_of
from vllm_operator.planning.decide import plan
from vllm_operator.planning.memory import GIB
from vllm_operator.planning.observation_keys import key_of
from vllm_operator.planning.observing import prediction_of

if TYPE_CHECKING:
    from vllm_operator.api.observations import ObservationKey
    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.planning.plan import Plan

QWEN_8B = "Qwen/Qwen3-8B"
ONE_H100 = inventory(node("H100", "h100-0", 1))
WORKLOAD = {"contextLength": 8192, "concurrency": 4}
VERSION = "1.0"
NOW = "2026-11-01T00:00:00Z"


def asked(model: str = LLAMA_8B, **sections: Any) -> VLLMDeploymentSpec:
    return spec(model, workload=WORKLOAD, **sections)


def planned(model: str = LLAMA_8B, **sections: Any) -> tuple[Plan, ObservationKey]:
    wanted = asked(model, **sections)
    found = plan(wanted, facts(model), ONE_H100)
    key = key_of(found, wanted)
    assert key is not None
    return found, key


def seen(
    model: str = LLAMA_8B, share: float = 1.0, *, at: str = NOW, by: str = VERSION, **sections: Any
) -> Observation:
    """Pods of this plan that reported that share of what was predicted."""
    found, key = planned(model, **sections)
    prediction = prediction_of(found, facts(model))
    assert prediction is not None
    tokens = int(prediction.kv_cache_tokens * share)
    observed = ObservedStatus(plan_hash=found.hash, kv_cache_tokens=tokens, most_kv_cache_tokens=tokens)
    learned = observation_of(key, prediction, observed, predicted_by=by, now=at, source="team/model")
    assert learned is not None
    return learned


def in_the_light_of(model: str, *observations: Observation, by: str = VERSION, **sections: Any) -> tuple[Plan, Plan]:
    found, key = planned(model, **sections)
    return found, calibrated(found, key, Observations(observations), predicted_by=by)


def test_nothing_observed_leaves_a_plan_as_it_is() -> None:
    before, after = in_the_light_of(LLAMA_8B)
    assert after is before


def test_the_same_start_is_known_from_then_on() -> None:
    one = seen(share=0.9)
    before, after = in_the_light_of(LLAMA_8B, one)
    assert before.memory is not None
    assert after.memory is not None
    assert after.memory.basis == "Observed"
    assert after.memory.kv_cache_tokens == one.kv_cache_tokens
    assert after.memory.kv_cache_bytes == pytest.approx(0.9 * before.memory.kv_cache_bytes, rel=1e-4)
    low, high = after.memory.kv_cache_interval_bytes
    raw_low, raw_high = before.memory.kv_cache_interval_bytes
    assert low < after.memory.kv_cache_bytes < high
    assert high - low < (raw_high - raw_low) / 4, "what was seen is surer than what was computed"


def test_another_model_on_the_same_gpu_is_corrected_by_the_residual_and_less_sure() -> None:
    one = seen(share=0.9)
    residual = one.kv_cache_bytes - one.predicted_kv_cache_bytes
    before, after = in_the_light_of(QWEN_8B, one)
    assert before.memory is not None
    assert after.memory is not None
    assert after.memory.kv_cache_bytes == before.memory.kv_cache_bytes + residual
    assert after.memory.kv_cache_tokens < before.memory.kv_cache_tokens
    low, high = after.memory.kv_cache_interval_bytes
    raw_low, raw_high = before.memory.kv_cache_interval_bytes
    assert low == raw_low + residual
    assert high == raw_high
    assert after.memory.basis.endswith("Observed elsewhere")


def test_of_several_residuals_the_median_counts() -> None:
    shares = (0.8, 0.95, 0.94, 0.93, 1.2)
    starts = [seen(share=share, engine={"maxNumSeqs": 100 + number}) for number, share in enumerate(shares)]
    before, after = in_the_light_of(QWEN_8B, *starts)
    residuals = sorted(one.kv_cache_bytes - one.predicted_kv_cache_bytes for one in starts)
    assert before.memory is not None
    assert after.memory is not None
    assert after.memory.kv_cache_bytes - before.memory.kv_cache_bytes == residuals[2]


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(lambda: seen(share=0.9, engine={"version": "0.32.0"}), id="another release"),
        pytest.param(lambda: seen(share=0.9, engine={"image": "registry.example.com/fork:v1"}), id="another build"),
        pytest.param(lambda: seen(share=0.9, by="0.9"), id="a prediction that is made otherwise now"),
        pytest.param(lambda: seen(share=0.01), id="nothing like what was planned"),
        pytest.param(lambda: seen(share=0.9999), id="no more than identical starts differ"),
    ],
)
def test_what_says_nothing_of_other_models_does_not_change_them(one: Any) -> None:
    before, after = in_the_light_of(QWEN_8B, one())
    assert after is before


def test_an_offline_plan_that_knows_no_commit_takes_what_was_seen_of_any() -> None:
    one = seen(share=0.9)
    of_a_commit = one.model_copy(update={"key": one.key.model_copy(update={"revision": "0e9e39f" + 33 * "0"})})
    known = Observations([of_a_commit])
    for revision in (None, "main"):
        assert known.of(one.key.model_copy(update={"revision": revision})) == of_a_commit
    assert known.of(one.key.model_copy(update={"revision": 40 * "f"})) is None


def test_a_workload_that_does_not_hold_is_a_warning_with_the_next_step_and_never_a_refusal() -> None:
    before, after = in_the_light_of(LLAMA_8B, seen(share=0.05))
    assert after.verdict is before.verdict
    (warning,) = set(after.warnings) - set(before.warnings)
    assert "was observed to leave" in warning
    assert "lower spec.workload.contextLength or spec.workload.concurrency to" in warning


@given(share=st.floats(0.02, 1.0), same=st.booleans())
def test_nothing_that_is_learned_changes_verdict_flags_or_placement(share: float, same: bool) -> None:
    before, after = in_the_light_of(LLAMA_8B if same else QWEN_8B, seen(share=share))
    assert replace(after, memory=before.memory, warnings=before.warnings) == before
    assert after.hash == before.hash
    assert set(before.warnings) <= set(after.warnings)
    if after.memory is not None:
        low, high = after.memory.kv_cache_interval_bytes
        assert 0 <= low <= after.memory.kv_cache_bytes <= high


def test_two_starts_of_one_key_come_to_rest_at_least_and_most() -> None:
    less, more = seen(share=0.90), seen(share=0.92, at="2026-11-02T00:00:00Z")
    both = merged(less, more)
    assert (both.kv_cache_tokens, both.most_kv_cache_tokens) == (less.kv_cache_tokens, more.kv_cache_tokens)
    assert merged(both, seen(share=0.91, at="2026-11-03T00:00:00Z")) is both
    known = Observations([both])
    assert known.with_one(less) is known


def test_the_oldest_go_when_there_are_too_many() -> None:
    one = seen()
    many = [
        one.model_copy(
            update={
                "key": one.key.model_copy(update={"revision": f"{number:07}"}),
                "observed_at": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
            }
        )
        for number in range(MOST_OBSERVATIONS + 7)
    ]
    kept = Observations(many)
    assert len(kept) == MOST_OBSERVATIONS
    assert min(found.key.revision or "" for found in kept) == "0000007"
    assert len(kept.with_one(one)) == MOST_OBSERVATIONS


@pytest.mark.parametrize("tokens", [0, None, 10**15])
def test_a_report_that_cannot_be_true_teaches_nothing(tokens: int | None) -> None:
    found, key = planned()
    prediction = prediction_of(found, facts(LLAMA_8B))
    observed = ObservedStatus(plan_hash=found.hash, kv_cache_tokens=tokens, most_kv_cache_tokens=tokens)
    assert observation_of(key, prediction, observed, predicted_by=VERSION, now=NOW, source="") is None


def test_pods_of_another_plan_teach_nothing_of_this_one() -> None:
    found, key = planned()
    observed = ObservedStatus(plan_hash="another", kv_cache_tokens=5, most_kv_cache_tokens=5)
    prediction = prediction_of(found, facts(LLAMA_8B))
    assert observation_of(key, prediction, observed, predicted_by=VERSION, now=NOW, source="") is None


def test_a_residual_is_a_matter_of_gib_and_not_of_the_models_size() -> None:
    """A constant that vLLM takes more of, such as a workspace, is the same for a small model and a large one."""
    one = seen(share=0.95)
    residual_gib = (one.kv_cache_bytes - one.predicted_kv_cache_bytes) / GIB
    before, after = in_the_light_of(QWEN_8B, one, engine={"maxNumSeqs": 16})
    assert before.memory is not None
    assert after.memory is not None
    assert (after.memory.kv_cache_bytes - before.memory.kv_cache_bytes) / GIB == pytest.approx(residual_gib)
