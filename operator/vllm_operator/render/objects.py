"""A plan as Kubernetes objects: Deployment, Service, and what belongs to them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec import CacheType, RolloutStrategy
from vllm_operator.api.v1alpha1 import API_VERSION, KIND
from vllm_operator.planning.flags import flags_of
from vllm_operator.planning.source import parse_address
from vllm_operator.render.budgets import PROBE_PERIOD_SECONDS, Budgets, budgets
from vllm_operator.render.environment import engine_environment
from vllm_operator.render.labels import PLAN_HASH_ANNOTATION, object_labels, selector_labels
from vllm_operator.render.last_words import config_map_name, logging_config
from vllm_operator.render.overlay import overlaid
from vllm_operator.render.templates import Manifest, render_template
from vllm_operator.render.volumes import cache_claim_name, pod_volumes

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.api.v1alpha1 import VLLMDeployment
    from vllm_operator.planning.plan import Placement, Plan

ENGINE_PORT: Final = 8000


class NotRenderable(Exception):
    """The plan names no GPU class to run on, so there is nothing to render."""


def render(
    plan: Plan, deployment: VLLMDeployment, *, namespace: str, name: str, uid: str | None = None
) -> list[Manifest]:
    """Return the objects of a plan in the order in which they are applied; equal inputs give equal objects.

    `uid` is the VLLMDeployment's: with it every object is owned by it and goes when it goes.

    Raises:
        NotRenderable: the plan has no placement.
    """
    if plan.placement is None:
        raise NotRenderable(plan.message)
    common = {
        "name": name,
        "namespace": namespace,
        "labels": object_labels(name),
        "selector": selector_labels(name),
        "owner": _owner(name, uid) if uid else None,
    }
    objects = [render_template("configmap", {**common, **_config_map(name)})]
    if deployment.spec.cache.type is CacheType.PERSISTENT_VOLUME_CLAIM and deployment.spec.cache.claim_name is None:
        objects.append(render_template("persistentvolumeclaim", {**common, **_claim(deployment, name)}))
    objects.append(_deployment(plan, plan.placement, deployment, common))
    service = deployment.spec.service
    objects.append(render_template("service", {**common, "service_type": service.type.value, "port": service.port}))
    return objects


def _deployment(plan: Plan, placement: Placement, deployment: VLLMDeployment, common: dict[str, Any]) -> Manifest:
    spec, name = deployment.spec, str(common["name"])
    times = budgets(plan.checkpoint_bytes, from_hub=parse_address(spec.model.uri).is_hub)
    volumes = pod_volumes(deployment, name=name, gpus=placement.gpus_per_replica)
    manifest = render_template(
        "deployment",
        {
            **common,
            "annotations": {PLAN_HASH_ANNOTATION: plan.hash},
            "pod_annotations": {"kubectl.kubernetes.io/default-container": "engine", PLAN_HASH_ANNOTATION: plan.hash},
            "replicas": _replicas(spec),
            "strategy": rollout_strategy(spec.rollout.strategy),
            "budgets": asdict(times),
            "probe_period_seconds": PROBE_PERIOD_SECONDS,
            "node_selector": dict(spec.gpu.node_selector),
            "affinity_terms": _affinity_terms(placement),
            "tolerations": _tolerations(spec, placement.gpu_class.resource_name),
            "image": plan.image,
            "args": _arguments(plan, spec, name, times),
            "env": engine_environment(deployment),
            "port": ENGINE_PORT,
            "resources": {placement.gpu_class.resource_name: str(placement.gpus_per_replica)},
            "volumes": volumes.volumes,
            "volume_mounts": volumes.mounts,
        },
    )
    template = manifest["spec"]["template"]
    manifest["spec"]["template"] = overlaid(template, spec.pod_template, fixed_labels=selector_labels(name))
    return manifest


def rollout_strategy(strategy: RolloutStrategy) -> dict[str, Any]:
    """Return how pods are replaced.

    `Auto` replaces one pod at a time and never asks for a GPU beyond those in use: a surge pod that no node has room
    for would block the rollout for ever.
    """
    match strategy:
        case RolloutStrategy.RECREATE:
            return {"type": "Recreate"}
        case RolloutStrategy.ROLLING_UPDATE:
            return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        case RolloutStrategy.AUTO:
            return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def _arguments(plan: Plan, spec: VLLMDeploymentSpec, name: str, times: Budgets) -> list[str]:
    """Return the plan's arguments and those that belong to the pod rather than to the plan."""
    arguments = list(plan.args)
    if spec.model.served_name is None:
        arguments += ["--served-model-name", name]
    arguments += ["--port", str(ENGINE_PORT)]
    if flags_of(plan.engine_version).has("shutdown-timeout"):
        arguments += ["--shutdown-timeout", str(times.shutdown_timeout_seconds)]
    return arguments


def _replicas(spec: VLLMDeploymentSpec) -> int | None:
    """Return the fixed number; None leaves the field to the autoscaler."""
    if spec.scaling is not None:
        return None
    return 1 if spec.replicas is None else spec.replicas


def _affinity_terms(placement: Placement) -> list[dict[str, Any]]:
    return [
        {
            "matchExpressions": [
                {"key": label, "operator": "In", "values": list(values)} for label, values in sorted(term.items())
            ]
        }
        for term in placement.node_selector_terms
    ]


def _tolerations(spec: VLLMDeploymentSpec, resource_name: str) -> list[dict[str, Any]]:
    """Return the taint that GPU nodes carry by convention, named like their resource, and the user's own."""
    own = [toleration.model_dump(by_alias=True, exclude_none=True, mode="json") for toleration in spec.gpu.tolerations]
    conventional = {"key": resource_name, "operator": "Exists", "effect": "NoSchedule"}
    return [conventional, *(toleration for toleration in own if toleration != conventional)]


def _config_map(name: str) -> dict[str, Any]:
    return {"config_map_name": config_map_name(name), "logging_config": logging_config()}


def _claim(deployment: VLLMDeployment, name: str) -> dict[str, Any]:
    cache = deployment.spec.cache
    return {
        "claim_name": cache_claim_name(deployment, name),
        # Several replicas on several nodes can share a claim only where the storage class offers it.
        "access_mode": "ReadWriteOnce" if deployment.spec.desired_replicas == 1 else "ReadWriteMany",
        "storage_class_name": cache.storage_class_name,
        "size": cache.size,
    }


def _owner(name: str, uid: str) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
