"""Objects that are made only when they are asked for, and only where the cluster has their API.

None of them changes the pods: asking for one, or no longer, restarts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.exposure import Toggle
from vllm_operator.render.autoscaling import autoscaler_values, scaled_object_values
from vllm_operator.render.labels import all_pods_labels
from vllm_operator.render.objects import shared_values
from vllm_operator.render.routing import pool_values, route_values
from vllm_operator.render.templates import render_template
from vllm_operator.render.workload import ENGINE_PORT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from vllm_operator.api.exposure import GatewaySpec
    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.api.v1alpha1 import VLLMDeployment
    from vllm_operator.planning.plan import Plan
    from vllm_operator.render.templates import Manifest

AUTOSCALER: Final = "HorizontalPodAutoscaler"
DISRUPTION_BUDGET: Final = "PodDisruptionBudget"
NETWORK_POLICY: Final = "NetworkPolicy"
POD_MONITOR: Final = "PodMonitor"
SCALED_OBJECT: Final = "ScaledObject"
ROUTE: Final = "HTTPRoute"
POOL: Final = "InferencePool"

BUILT_IN: Final = frozenset({AUTOSCALER, DISRUPTION_BUDGET, NETWORK_POLICY})
"""Kinds that every supported Kubernetes has."""
ADDED: Final = frozenset({POD_MONITOR, SCALED_OBJECT, ROUTE, POOL})
"""Kinds that come with something else that is installed."""

_WHY_MISSING: Final = {
    AUTOSCALER: "the operator cannot list autoscaling/v2 here: nothing scales the replicas",
    DISRUPTION_BUDGET: "the operator cannot list policy/v1 here: a drain may end all replicas at once",
    NETWORK_POLICY: "the operator cannot list networking.k8s.io/v1 here: the pods are open to all",
    POD_MONITOR: "the cluster does not serve monitoring.coreos.com/v1: install the Prometheus operator, or set"
    " spec.monitoring.podMonitor to Off",
    SCALED_OBJECT: "the cluster does not serve keda.sh/v1alpha1, so that nothing scales the replicas: install KEDA, or"
    " set spec.scaling.metric in the place of spec.scaling.keda",
    ROUTE: "the cluster does not serve gateway.networking.k8s.io/v1: install the Gateway API and a gateway, or remove"
    " spec.gateway",
    POOL: "the cluster does not serve inference.networking.k8s.io/v1, so that requests go to the replicas in turn:"
    " install the Gateway API Inference Extension, or remove spec.gateway.inferencePool",
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
    workload: Manifest,
    uid: str | None = None,
    served: Collection[str],
) -> Optional:
    """Return the optional objects of the kinds that are served, and those that are left out because theirs is not.

    `workload` is the object that runs the pods, which an autoscaler scales. What is only wanted where it is possible
    (`Auto`) is left out without a word.
    """
    metadata = workload["metadata"]
    common = shared_values(namespace=metadata["namespace"], name=metadata["name"], uid=uid)
    objects, left_out = [], []
    for kind, values in _asked_for(plan, deployment.spec, workload, served):
        if kind in served:
            labels = {**values.pop("labels", {}), **common["labels"]}
            objects.append(render_template(kind.lower(), {**common, **values, "labels": labels}))
        elif kind != POD_MONITOR or _needs_monitor(deployment.spec):
            left_out.append(LeftOut(kind, _WHY_MISSING[kind]))
    return Optional(tuple(objects), tuple(left_out))


def kinds_without_a_cluster(spec: VLLMDeploymentSpec) -> frozenset[str]:
    """Return what to show where no cluster can be asked: all but a PodMonitor that is wanted only where possible."""
    return BUILT_IN | ADDED if _needs_monitor(spec) else BUILT_IN | ADDED - {POD_MONITOR}


def _asked_for(
    plan: Plan, spec: VLLMDeploymentSpec, workload: Manifest, served: Collection[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the kinds that the spec asks for, with what their templates need."""
    scaling = spec.scaling
    if scaling is not None and scaling.metric is not None:
        yield AUTOSCALER, autoscaler_values(plan, spec, scaling, workload)
    if scaling is not None and scaling.keda is not None:
        yield SCALED_OBJECT, scaled_object_values(plan, spec, scaling, workload)
    if (scaling.max_replicas if scaling is not None else spec.desired_replicas) > 1:
        yield DISRUPTION_BUDGET, _every_pod(workload)
    if spec.network_policy is not None:
        peers: list[dict[str, Any]] = [{"podSelector": {}}]
        if spec.network_policy.allowed_namespaces:
            peers.append({"namespaceSelector": {"matchLabels": dict(spec.network_policy.allowed_namespaces)}})
        yield NETWORK_POLICY, {"peers": peers, "ranks": _ranks(workload), **_every_pod(workload)}
    if spec.monitoring.pod_monitor is not Toggle.OFF:
        yield POD_MONITOR, {"labels": dict(spec.monitoring.labels)}
    if spec.gateway is not None:
        yield from _routing(spec.gateway, spec, workload, served)


def _every_pod(workload: Manifest) -> dict[str, Any]:
    """Return the selector of all pods of a group, also of those that serve nobody; nothing where every pod serves."""
    return {"selector": _ranks(workload)} if _ranks(workload) else {}


def _ranks(workload: Manifest) -> dict[str, str]:
    """Return what selects the pods that are one engine together: they talk to each other on ports that vary."""
    return all_pods_labels(workload["metadata"]["name"]) if workload["kind"] == "LeaderWorkerSet" else {}


def _routing(
    gateway: GatewaySpec, spec: VLLMDeploymentSpec, workload: Manifest, served: Collection[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield pool and route; as long as there can be no pool, the route leads to the Service."""
    if gateway.inference_pool is not None:
        yield POOL, pool_values(gateway.inference_pool, target_port=ENGINE_PORT)
    if gateway.parent_refs:
        to_pool = gateway.inference_pool is not None and POOL in served
        name = workload["metadata"]["name"]
        yield ROUTE, route_values(gateway, name=name, service_port=spec.service.port, to_pool=to_pool)


def _needs_monitor(spec: VLLMDeploymentSpec) -> bool:
    """Whether the PodMonitor was asked for outright, or KEDA counts what it has scraped."""
    keda = spec.scaling.keda if spec.scaling is not None else None
    return spec.monitoring.pod_monitor is Toggle.ON or (keda is not None and keda.query is None)
