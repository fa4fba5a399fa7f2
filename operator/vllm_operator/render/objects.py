"""A plan as Kubernetes objects: what runs the pods, their Service, and what belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec import CacheType
from vllm_operator.api.v1alpha1 import API_VERSION, KIND
from vllm_operator.render.errors import NotRenderable
from vllm_operator.render.labels import object_labels, selector_labels
from vllm_operator.render.templates import Manifest, render_template
from vllm_operator.render.volumes import cache_claim_name
from vllm_operator.render.workload import workload_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.api.v1alpha1 import VLLMDeployment
    from vllm_operator.planning.plan import Plan

__all__ = ["Manifest", "NotRenderable", "render", "shared_values", "workload_of"]

WORKLOADS: Final = frozenset({"Deployment", "LeaderWorkerSet"})
"""Kinds that run pods and can be scaled."""


def render(
    plan: Plan, deployment: VLLMDeployment, *, namespace: str, name: str, uid: str | None = None
) -> list[Manifest]:
    """Return the objects of a plan in the order in which they are applied; equal inputs give equal objects.

    `uid` is the VLLMDeployment's: with it every object is owned by it and goes when it goes.

    Raises:
        NotRenderable: the plan has no placement.
        OverlayRefused: `spec.podTemplate` contradicts what is managed.
    """
    if plan.placement is None or not plan.args:
        raise NotRenderable(plan.message or "the plan names no GPUs to run on")
    common = shared_values(namespace=namespace, name=name, uid=uid)
    objects = []
    cache = deployment.spec.cache
    if cache.type is CacheType.PERSISTENT_VOLUME_CLAIM and cache.claim_name is None:
        objects.append(render_template("persistentvolumeclaim", {**common, **_claim(deployment, name)}))
    objects.append(workload_manifest(plan, plan.placement, deployment.spec, common))
    service = deployment.spec.service
    objects.append(render_template("service", {**common, "service_type": service.type.value, "port": service.port}))
    return objects


def workload_of(objects: Iterable[Manifest]) -> Manifest:
    """Return the one of the objects that runs the pods."""
    (workload,) = (manifest for manifest in objects if manifest["kind"] in WORKLOADS)
    return workload


def shared_values(*, namespace: str, name: str, uid: str | None) -> dict[str, Any]:
    """Return the values that the templates of all objects use."""
    return {
        "name": name,
        "namespace": namespace,
        "labels": object_labels(name),
        "selector": selector_labels(name),
        # Not the plan's hash: a new plan must not rewrite objects in which nothing else changes.
        "annotations": {},
        "owners": [_owner(name, uid)] if uid else [],
    }


def _claim(deployment: VLLMDeployment, name: str) -> dict[str, Any]:
    cache = deployment.spec.cache
    return {
        "claim_name": cache_claim_name(deployment.spec, name),
        "access_mode": cache.access_mode.value,
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
