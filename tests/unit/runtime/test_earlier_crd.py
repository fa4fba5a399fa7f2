"""A CRD that is older than the operator costs the fields that it does not know, and nothing else."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from vllm_operator.runtime.earlier_crd import ASK_AGAIN_SECONDS, EarlierCrd
from vllm_operator.runtime.kube import ApiError

REFUSED = """failed to create typed patch object (team/model; vllm-operator.io/v1alpha1, Kind=VLLMDeployment): errors:
  .status.oomRisk: field not declared in schema
  .status.plan.hash: field not declared in schema
  .status.suggestions[0].effect: field not declared in schema"""
STATUS: dict[str, Any] = {
    "verdict": "Fits",
    "oomRisk": "Low",
    "plan": {"hash": "1", "flags": ["--a"]},
    "suggestions": [{"effect": "more", "path": "a"}, {"effect": "less", "path": "b"}],
}
LEFT = {
    "verdict": "Fits",
    "plan": {"flags": ["--a"]},
    "suggestions": [{"path": "a"}, {"path": "b"}],
}


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_what_is_refused_is_left_out_for_a_while_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    crd = EarlierCrd(clock)
    assert crd.left_out_of(STATUS) is STATUS
    with caplog.at_level(logging.WARNING):
        assert crd.learn(ApiError(500, "", REFUSED))
        assert crd.learn(ApiError(500, "", REFUSED)), "of a write that was under way"
    (told,) = caplog.records
    assert told.reason == "left out of each status: oomRisk, plan.hash, suggestions.[].effect"  # type: ignore[attr-defined]
    assert crd.left_out_of(STATUS) == LEFT
    assert crd.left_out_of({"verdict": "Fits", "plan": None}) == {"verdict": "Fits", "plan": None}
    clock.seconds += ASK_AGAIN_SECONDS
    assert crd.left_out_of(STATUS) == STATUS, "the CRD may have been applied"


@pytest.mark.parametrize("message", ["etcdserver: request timed out", ".spec.model: field not declared in schema"])
def test_any_other_refusal_is_none_of_its_business(message: str) -> None:
    crd = EarlierCrd(Clock())
    assert not crd.learn(ApiError(500, "", message))
    assert crd.left_out_of(STATUS) is STATUS


LACKING = (
    'VLLMDeployment.vllm-operator.io "model" is invalid: [status.plan.hash: Required value, '
    "status.suggestions[0].path: Required value, status.suggestions[1].path: Required value]"
)


def test_what_the_crd_requires_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    crd = EarlierCrd(Clock())
    with caplog.at_level(logging.WARNING):
        assert crd.requires_more(ApiError(422, "Invalid", LACKING))
        assert crd.requires_more(ApiError(422, "Invalid", LACKING.replace("model", "other")))
    (told,) = caplog.records
    assert told.reason == "no status is taken without: plan.hash, suggestions.[].path"  # type: ignore[attr-defined]
    assert crd.left_out_of(STATUS) is STATUS


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ApiError(422, "Invalid", "spec.model: Required value"), id="of the spec"),
        pytest.param(ApiError(422, "Invalid", 'status.verdict: Invalid value: "?"'), id="another fault"),
        pytest.param(ApiError(500, "", "status.plan: Required value"), id="another answer"),
    ],
)
def test_another_refusal_is_not_about_what_is_required(error: ApiError) -> None:
    assert not EarlierCrd(Clock()).requires_more(error)
