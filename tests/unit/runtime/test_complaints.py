"""An object that is made need not work: what its own controller says about it is told."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.api import conditions as reasons
from vllm_operator.runtime.children import Child, Children, Rollout
from vllm_operator.runtime.complaints import LONGEST_COMPLAINT, complaint_of
from vllm_operator.runtime.desired import with_complaints
from vllm_operator.runtime.status import Rendering

NO_METRICS = {
    "type": "ScalingActive",
    "status": "False",
    "reason": "FailedGetPodsMetric",
    "message": "unable to fetch metrics: no custom metrics API (custom.metrics.k8s.io) registered",
}
ABLE = {"type": "AbleToScale", "status": "True", "reason": "SucceededGetScale", "message": "scale was read"}
AT_ZERO = {"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled", "message": "replicas are zero"}
NOT_READY = {"type": "Ready", "status": "False", "reason": "ScaledObjectCheckFailed", "message": "no such trigger"}
ACCEPTED = {"type": "Accepted", "status": "True", "reason": "Accepted"}
NO_BACKEND = {"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound", "message": "no Service model"}
APPLIED = Rendering(reasons.APPLIED, "3 objects are applied")


def _parents(*conditions: dict[str, Any]) -> dict[str, Any]:
    return {"parents": [{"parentRef": {"name": "inference"}, "conditions": list(conditions)}]}


@pytest.mark.parametrize(
    ("kind", "status", "complaint"),
    [
        ("HorizontalPodAutoscaler", {}, ""),
        ("HorizontalPodAutoscaler", {"conditions": [ABLE, AT_ZERO]}, ""),
        (
            "HorizontalPodAutoscaler",
            {"conditions": [ABLE, NO_METRICS]},
            f"FailedGetPodsMetric: {NO_METRICS['message']}",
        ),
        ("ScaledObject", {"conditions": [NOT_READY]}, "ScaledObjectCheckFailed: no such trigger"),
        ("ScaledObject", {"conditions": [{**NOT_READY, "status": "Unknown"}]}, ""),
        ("HTTPRoute", _parents(ACCEPTED), ""),
        ("HTTPRoute", _parents(ACCEPTED, NO_BACKEND), "Gateway inference: BackendNotFound: no Service model"),
        ("InferencePool", _parents(NO_BACKEND), "Gateway inference: BackendNotFound: no Service model"),
        ("PodDisruptionBudget", {"conditions": [{**NO_METRICS, "type": "DisruptionAllowed"}]}, ""),
    ],
)
def test_a_controllers_complaint_is_read_from_the_status_of_its_object(
    kind: str, status: dict[str, Any], complaint: str
) -> None:
    assert complaint_of({"kind": kind, "status": status}) == complaint


def test_a_long_complaint_is_cut() -> None:
    status = {"conditions": [{**NO_METRICS, "message": "x" * 5000}]}
    assert len(complaint_of({"kind": "HorizontalPodAutoscaler", "status": status})) == LONGEST_COMPLAINT


def test_a_complaint_that_comes_or_goes_is_news_for_the_owner() -> None:
    owner = {"kind": "VLLMDeployment", "name": "model", "uid": "cr-1", "controller": True}
    metadata = {"name": "model", "namespace": "team", "ownerReferences": [owner]}
    scaler = {"kind": "HorizontalPodAutoscaler", "metadata": metadata, "status": {"conditions": [ABLE]}}
    children = Children()
    assert children.upsert(scaler) == "team/model"
    assert children.upsert({**scaler, "status": {"conditions": [ABLE], "currentReplicas": 2}}) is None
    assert children.upsert({**scaler, "status": {"conditions": [ABLE, NO_METRICS]}}) == "team/model"
    assert children.upsert(scaler) == "team/model"


def _child(kind: str, *, complaint: str = "", rollout: Rollout | None = None) -> Child:
    return Child(
        id=(kind, "model"),
        uid="uid-1",
        owner_uid="cr-1",
        version=1,
        fingerprint=b"",
        packed=b"",
        rollout=rollout,
        complaint=complaint,
    )


LOADING = _child("Deployment", rollout=Rollout(available=0))
SERVING = _child("Deployment", rollout=Rollout(available=1))
SCALER = _child("HorizontalPodAutoscaler", complaint="FailedGetPodsMetric: no metrics API")
ROUTE = _child("HTTPRoute", complaint="Gateway inference: NotAllowedByListeners: another namespace")


def test_what_does_not_work_is_said_beside_what_is_applied() -> None:
    found = with_complaints(APPLIED, [SERVING, SCALER], unread={})
    assert (found.status, found.reason) == ("True", reasons.PART_NOT_WORKING)
    assert found.message == (
        "3 objects are applied; the HorizontalPodAutoscaler does not work: FailedGetPodsMetric: no metrics API"
    )


def test_an_autoscaler_has_nothing_to_read_before_a_pod_serves() -> None:
    assert with_complaints(APPLIED, [LOADING, SCALER], unread={}) == APPLIED


def test_a_route_that_no_gateway_accepts_is_told_before_a_pod_serves() -> None:
    found = with_complaints(APPLIED, [LOADING, ROUTE], unread={})
    assert "the HTTPRoute does not work: Gateway inference: NotAllowedByListeners" in found.message


def test_what_is_left_out_stays_the_reason() -> None:
    left_out = Rendering(reasons.APPLIED_IN_PART, "2 objects are applied; no PodMonitor is made")
    found = with_complaints(left_out, [SERVING, SCALER], unread={})
    assert found.reason == reasons.APPLIED_IN_PART
    assert found.message.startswith(left_out.message)
    assert "HorizontalPodAutoscaler does not work" in found.message


def test_complaints_do_not_hide_that_nothing_is_rendered() -> None:
    withheld = Rendering(reasons.WITHHELD, "the deployment does not fit")
    assert with_complaints(withheld, [SERVING, SCALER], unread={}) == withheld


def test_a_kind_that_may_not_be_read_any_more_is_told_by_those_that_have_one() -> None:
    unread = {"Deployment": "403 Forbidden: deployments is forbidden"}
    found = with_complaints(APPLIED, [SERVING], unread=unread)
    assert (found.status, found.reason) == ("True", reasons.PART_NOT_WORKING)
    assert found.message == (
        "3 objects are applied; the Deployment may not be read any more, what is said of it is what was seen last:"
        " 403 Forbidden: deployments is forbidden"
    )
    assert with_complaints(APPLIED, [ROUTE], unread=unread) == with_complaints(APPLIED, [ROUTE], unread={})
