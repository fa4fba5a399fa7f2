"""Objects that are made only when they are asked for, and only where the cluster has their API.

None of them changes the pods: asking for one, or no longer, restarts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec import Toggle
from vllm_operator.render.objects import shared_values
from vllm_operator.render.templates import render_template

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.api.v1alpha1 import VLLMDeployment
    from vllm_operator.planning.plan import Plan
    from vllm_operator.render.templates import Manifest

AUTOSCALER: Final = "HorizontalPodAutoscaler"
DISRUPTION_BUDGET: Final = "PodDisruptionBudget"
NETWORK_POLICY: Final = "NetworkPolicy"
POD_MONITOR: Final = "PodMonitor"

BUILT_IN: Final = frozenset({AUTOSCALER, DISRUPTION_BUDGET, NETWORK_POLICY})
"""Kinds that every supported Kubernetes has; a PodMonitor comes with the Prometheus operator."""

_WHY_MISSING: Final = {
    AUTOSCALER: "the operator cannot list autoscaling/v2 here: nothing scales the replicas",
    DISRUPTION_BUDGET: "the operator cannot list policy/v1 here: a drain may end all replicas at once",
    NETWORK_POLICY: "the operator cannot list networking.k8s.io/v1 here: the pods are open to all",
    POD_MONITOR: "the cluster does not serve monitoring.coreos.com/v1: install the Prometheus operator, or set"
    " spec.monitoring.podMonitor to Off",
}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An object that is not made although the spec speaks of it."""

    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Optional:
    """What was asked for besides the objects that every deployment has."""

    objects: tuple[Manifest, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def render_optional(
    plan: Plan,
    deployment: VLLMDeployment,
    *,
    namespace: str,
    name: str,
    uid: str | None = None,
    served: Collection[str],
) -> Optional:
    """Return the optional objects of the kinds that are served, and those that are left out because theirs is not.

    What is only wanted where it is possible (`Auto`) is left out without a word.
    """
    common = shared_values(plan, namespace=namespace, name=name, uid=uid)
    objects, left_out = [], []
    for kind, values in _asked_for(deployment.spec):
        if kind in served:
            labels = {**values.pop("labels", {}), **common["labels"]}
            objects.append(render_template(kind.lower(), {**common, **values, "labels": labels}))
        elif kind != POD_MONITOR or deployment.spec.monitoring.pod_monitor is Toggle.ON:
            left_out.append(LeftOut(kind, _WHY_MISSING[kind]))
    return Optional(tuple(objects), tuple(left_out))


def _asked_for(spec: VLLMDeploymentSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the kinds that the spec asks for, with what their templates need."""
    scaling = spec.scaling
    if scaling is not None and scaling.metric is not None:
        yield (
            AUTOSCALER,
            {
                "min_replicas": scaling.min_replicas,
                "max_replicas": scaling.max_replicas,
                "metric_name": scaling.metric.name,
                "average_value": scaling.metric.average_value,
            },
        )
    if (scaling.max_replicas if scaling is not None else spec.desired_replicas) > 1:
        yield DISRUPTION_BUDGET, {}
    if spec.network_policy is not None:
        peers: list[dict[str, Any]] = [{"podSelector": {}}]
        if spec.network_policy.allowed_namespaces:
            peers.append({"namespaceSelector": {"matchLabels": dict(spec.network_policy.allowed_namespaces)}})
        yield NETWORK_POLICY, {"peers": peers}
    if spec.monitoring.pod_monitor is not Toggle.OFF:
        yield POD_MONITOR, {"labels": dict(spec.monitoring.labels)}
