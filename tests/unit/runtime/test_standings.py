"""What the metrics say of all resources together."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from vllm_operator.runtime.kube import DEPLOYMENTS, NODES, VLLM_DEPLOYMENTS, plural_of
from vllm_operator.runtime.standings import Standing, StandingsCollector, standing_of

FITS = {"verdict": "Fits", "oomRisk": "Low", "conditions": [{"type": "Ready", "status": "True"}]}
CRASHING = {
    "verdict": "Fits",
    "oomRisk": "High",
    "conditions": [
        {"type": "Ready", "status": "False"},
        {"type": "Degraded", "status": "True", "reason": "CrashLoop"},
    ],
}


@pytest.mark.parametrize(
    ("status", "standing"),
    [
        (FITS, Standing("Fits", "Low", True, "None")),
        (CRASHING, Standing("Fits", "High", False, "CrashLoop")),
        ({}, Standing("None", "None", False, "None")),
        ({"conditions": None, "verdict": 'x"} 1'}, Standing("Other", "None", False, "None")),
        (
            {"conditions": [{"type": "Degraded", "status": "True", "reason": "Somebody's"}, "no condition"]},
            Standing("None", "None", False, "Other"),
        ),
        (
            {"conditions": [{"type": "Degraded", "status": "False", "reason": "AsExpected"}]},
            Standing("None", "None", False, "None"),
        ),
    ],
    ids=["fits", "crashing", "no status", "a verdict of somebody else", "a reason of somebody else", "as expected"],
)
def test_a_status_stands_for_few_label_values(status: dict[str, object], standing: Standing) -> None:
    assert standing_of(status) == standing


def test_resources_are_counted_when_they_are_asked_for() -> None:
    registry, statuses = CollectorRegistry(), [FITS, FITS, CRASHING]
    StandingsCollector(lambda: [standing_of(status) for status in statuses], registry)

    assert registry.get_sample_value("vllm_operator_resources_by_verdict", {"verdict": "Fits"}) == 3
    assert registry.get_sample_value("vllm_operator_resources_by_verdict", {"verdict": "DoesNotFit"}) == 0
    assert registry.get_sample_value("vllm_operator_resources_by_oom_risk", {"oom_risk": "High"}) == 1
    assert registry.get_sample_value("vllm_operator_resources_by_ready", {"ready": "false"}) == 1
    assert registry.get_sample_value("vllm_operator_resources_degraded", {"reason": "CrashLoop"}) == 1
    assert registry.get_sample_value("vllm_operator_resources_degraded", {"reason": "None"}) is None

    del statuses[2]
    assert registry.get_sample_value("vllm_operator_resources_degraded", {"reason": "CrashLoop"}) is None


@pytest.mark.parametrize(
    ("path", "plural"),
    [
        (NODES.path(), "nodes"),
        (DEPLOYMENTS.path("ns", "name"), "deployments"),
        (VLLM_DEPLOYMENTS.path("ns", "name", "status"), "vllmdeployments"),
        (DEPLOYMENTS.path(), "deployments"),
        ("/apis/keda.sh/v1alpha1", "v1alpha1"),
        ("/api/v1/namespaces/ns", "namespaces"),
    ],
)
def test_a_request_is_counted_for_its_resource(path: str, plural: str) -> None:
    assert plural_of(path) == plural
