"""The object that runs vLLM as a plan says: a Deployment, or a LeaderWorkerSet where a replica takes several nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.pod_template import ENGINE_CONTAINER, ENGINE_PORT_NAME
from vllm_operator.api.spec import CacheType
from vllm_operator.planning.flags import KNOWN_VERSIONS, flags_of, release_of
from vllm_operator.planning.host import engine_requests
from vllm_operator.planning.source import parse_address
from vllm_operator.render import last_words, probes
from vllm_operator.render.budgets import budgets
from vllm_operator.render.environment import engine_environment
from vllm_operator.render.groups import LEADER, WORKER, rank_arguments, without_probes
from vllm_operator.render.labels import (
    LOGGING_ANNOTATION,
    PLAN_HASH_ANNOTATION,
    ROLLOUT_ANNOTATION,
    object_labels,
    worker_labels,
)
from vllm_operator.render.overlay import overlaid
from vllm_operator.render.rollout import rollout_of, rollout_of_groups
from vllm_operator.render.templates import Manifest, render_template
from vllm_operator.render.volumes import pod_volumes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.planning.plan import Placement, Plan
    from vllm_operator.render.budgets import Budgets

ENGINE_PORT: Final = 8000
"""vLLM's own default; the Service's port may be another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Workload:
    """What the pods of one deployment are made from."""

    plan: Plan
    placement: Placement
    spec: VLLMDeploymentSpec
    name: str
    times: Budgets


def workload_manifest(
    plan: Plan, placement: Placement, spec: VLLMDeploymentSpec, common: Mapping[str, Any]
) -> Manifest:
    """Return the object that runs the pods. `common` holds names, labels and owners that all objects share.

    Raises:
        OverlayRefused: `spec.podTemplate` contradicts what is managed.
    """
    times = budgets(plan.checkpoint_bytes, from_hub=parse_address(spec.model.uri).is_hub)
    workload = _Workload(plan=plan, placement=placement, spec=spec, name=str(common["name"]), times=times)
    return _deployment(workload, common) if placement.nodes_per_replica == 1 else _leader_worker_set(workload, common)


def _deployment(workload: _Workload, common: Mapping[str, Any]) -> Manifest:
    rollout = rollout_of(workload.spec, has_room_for_surge=workload.plan.has_room_for_surge)
    return render_template(
        "deployment",
        {
            **common,
            "annotations": {PLAN_HASH_ANNOTATION: workload.plan.hash, ROLLOUT_ANNOTATION: rollout.why},
            "replicas": _replicas(workload.spec),
            "strategy": rollout.strategy,
            "progress_deadline_seconds": workload.times.progress_deadline_seconds,
            "pod_template": _pod_template(workload),
        },
    )


def _leader_worker_set(workload: _Workload, common: Mapping[str, Any]) -> Manifest:
    rollout = rollout_of_groups(workload.spec, has_room_for_surge=workload.plan.has_room_for_surge)
    return render_template(
        "leaderworkerset",
        {
            **common,
            "annotations": {PLAN_HASH_ANNOTATION: workload.plan.hash, ROLLOUT_ANNOTATION: rollout.why},
            "replicas": _replicas(workload.spec),
            "rolling_update": rollout.strategy,
            "size": workload.placement.nodes_per_replica,
            "leader_template": _pod_template(workload, role=LEADER),
            "worker_template": _pod_template(workload, role=WORKER),
        },
    )


def _pod_template(workload: _Workload, role: str | None = None) -> Manifest:
    """Return the template of pods that serve alone, or that have a role in a group of several nodes."""
    plan, placement, spec, times = workload.plan, workload.placement, workload.spec, workload.times
    serves = role != WORKER
    volumes = pod_volumes(spec, name=workload.name, gpus=placement.gpus_per_pod)
    template = render_template(
        "pod",
        {
            "pod_labels": object_labels(workload.name) if serves else worker_labels(workload.name),
            "pod_annotations": {
                "kubectl.kubernetes.io/default-container": ENGINE_CONTAINER,
                PLAN_HASH_ANNOTATION: plan.hash,
                LOGGING_ANNOTATION: last_words.logging_config(last_words.wanted_level(spec.engine.env)),
            },
            "grace_period_seconds": times.grace_period_seconds,
            "pre_stop_seconds": times.pre_stop_seconds if serves else times.worker_pre_stop_seconds,
            "node_selector": dict(spec.gpu.node_selector),
            "affinity_terms": _affinity_terms(placement),
            "tolerations": _tolerations(spec, placement.gpu_class.resource_name),
            "container_name": ENGINE_CONTAINER,
            "image": plan.image,
            "args": _arguments(workload, role),
            "env": engine_environment(spec, nodes=placement.nodes_per_replica),
            "serves": serves,
            "port": ENGINE_PORT,
            "port_name": ENGINE_PORT_NAME,
            "resource_requests": _requests(placement, spec),
            "resource_limits": {placement.gpu_class.requested_as: str(placement.gpus_per_pod)},
            "startup_probe": probes.startup_probe(spec, times),
            "readiness_probe": probes.readiness_probe(),
            "liveness_probe": probes.liveness_probe(),
            "volumes": volumes.volumes,
            "volume_mounts": volumes.mounts,
        },
    )
    overlay = spec.pod_template if serves else without_probes(spec.pod_template)
    return overlaid(template, overlay, gpu_resource=placement.gpu_class.requested_as)


def _arguments(workload: _Workload, role: str | None) -> list[str]:
    """Return the plan's arguments and those that belong to the pod rather than to the plan.

    Ours come right behind the model: what the user appended may end with a flag that takes any number of values.
    """
    plan, times = workload.plan, workload.times
    model, *flags = plan.args
    own = [] if workload.spec.model.served_name is not None else ["--served-model-name", workload.name]
    own += ["--port", str(ENGINE_PORT)]
    if _finishes_requests(plan.engine_version):
        own += ["--shutdown-timeout", str(times.shutdown_timeout_seconds)]
    ranks = rank_arguments(role, plan.engine_version, times) if role is not None else []
    return [_literal(model), *own, *ranks, *map(_literal, flags)]


def _finishes_requests(version: str) -> bool:
    """Whether the release has --shutdown-timeout. The tables say nothing of releases before the first of them."""
    return release_of(version) >= release_of(KNOWN_VERSIONS[0]) and flags_of(version).has("shutdown-timeout")


def _literal(argument: str) -> str:
    """Double the dollar signs: the kubelet would otherwise replace `$(NAME)` by a variable, such as the hub token."""
    return argument.replace("$", "$$")


def _replicas(spec: VLLMDeploymentSpec) -> int | None:
    """Return the fixed number; None leaves the field to the autoscaler."""
    if spec.scaling is not None:
        return None
    return 1 if spec.replicas is None else spec.replicas


def _requests(placement: Placement, spec: VLLMDeploymentSpec) -> dict[str, str]:
    """Return what the scheduler reserves; of the node's disk only what the user says that downloads take."""
    gpus, cache = placement.gpus_per_pod, spec.cache
    disk = {"ephemeral-storage": cache.size} if cache.type is CacheType.EMPTY_DIR and cache.size is not None else {}
    return {**engine_requests(gpus), **disk, placement.gpu_class.requested_as: str(gpus)}


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
    conventional = {"key": resource_name, "operator": "Exists"}
    return [conventional, *(toleration for toleration in own if toleration != conventional)]
