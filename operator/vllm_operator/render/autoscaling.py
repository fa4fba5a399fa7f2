"""What scales the replicas: a HorizontalPodAutoscaler on a metric of the pods, or a ScaledObject on a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.planning.source import parse_address
from vllm_operator.render.budgets import budgets

if TYPE_CHECKING:
    from vllm_operator.api.scaling import ScalingSpec
    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.planning.plan import Plan
    from vllm_operator.render.budgets import Budgets
    from vllm_operator.render.templates import Manifest

LONGEST_STABILIZATION_SECONDS: Final = 3600
"""The API server's own limit (autoscaling/v2 HPAScalingRules)."""

REQUESTS_OF_PODS: Final = (
    'sum(vllm:num_requests_running{{job="{job}"}}) + sum(vllm:num_requests_waiting{{job="{job}"}})'
)
"""Requests that run or wait. Waiting ones alone are none as soon as the replicas are enough, and these would go again.
`job` is what the Prometheus operator sets for a PodMonitor: its namespace and name."""


def autoscaler_values(plan: Plan, spec: VLLMDeploymentSpec, scaling: ScalingSpec, workload: Manifest) -> dict[str, Any]:
    """Return what the template of a HorizontalPodAutoscaler needs. Requires `scaling.metric`."""
    assert scaling.metric is not None
    return {
        **_replicas(plan, spec, scaling, workload),
        "metric_name": scaling.metric.name,
        "average_value": scaling.metric.average_value,
    }


def scaled_object_values(
    plan: Plan, spec: VLLMDeploymentSpec, scaling: ScalingSpec, workload: Manifest
) -> dict[str, Any]:
    """Return what the template of a ScaledObject needs. Requires `scaling.keda`."""
    keda = scaling.keda
    assert keda is not None
    metadata = workload["metadata"]
    return {
        **_replicas(plan, spec, scaling, workload),
        "cooldown_seconds": scale_down_after_seconds(plan, spec, scaling),
        "server_address": keda.server_address,
        "query": keda.query or REQUESTS_OF_PODS.format(job=f"{metadata['namespace']}/{metadata['name']}"),
        "average_value": keda.average_value,
        "activation_value": keda.activation_value or "0",
        "authentication": keda.authentication_ref,
    }


def scale_down_after_seconds(plan: Plan, spec: VLLMDeploymentSpec, scaling: ScalingSpec) -> int:
    """Return how long the load must have been low: what is removed too soon takes a whole start to come back."""
    if scaling.scale_down_after_seconds is not None:
        return scaling.scale_down_after_seconds
    return min(LONGEST_STABILIZATION_SECONDS, _budgets(plan, spec).startup_seconds)


def _replicas(plan: Plan, spec: VLLMDeploymentSpec, scaling: ScalingSpec, workload: Manifest) -> dict[str, Any]:
    return {
        "target": {
            "apiVersion": workload["apiVersion"],
            "kind": workload["kind"],
            "name": workload["metadata"]["name"],
        },
        "min_replicas": scaling.min_replicas,
        "max_replicas": scaling.max_replicas,
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": scale_down_after_seconds(plan, spec, scaling),
                # One at a time: the next goes when the one before has finished its requests.
                "policies": [
                    {"type": "Pods", "value": 1, "periodSeconds": _budgets(plan, spec).grace_period_seconds},
                ],
            }
        },
    }


def _budgets(plan: Plan, spec: VLLMDeploymentSpec) -> Budgets:
    return budgets(plan.checkpoint_bytes, from_hub=parse_address(spec.model.uri).is_hub)
