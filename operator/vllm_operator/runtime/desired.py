"""What one VLLMDeployment wants in the cluster: the objects of its plan, or the reason why nothing is to change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from vllm_operator.api import conditions as reasons
from vllm_operator.api.conditions import find_condition
from vllm_operator.api.v1alpha1 import Admission
from vllm_operator.models.errors import ModelError
from vllm_operator.planning.plan import Verdict
from vllm_operator.render.labels import ROLLOUT_ANNOTATION
from vllm_operator.render.objects import WORKLOADS, render, workload_of
from vllm_operator.render.optional import render_optional
from vllm_operator.render.rollout import IN_PLACE, WITH_SURGE
from vllm_operator.runtime.complaints import NEEDS_PODS
from vllm_operator.runtime.pinning import pinned_to, pods_of_spec, read_pin, same_pods, with_pin
from vllm_operator.runtime.status import Rendering
from vllm_operator.runtime.writer import wanted_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from vllm_operator.api.status import VLLMDeploymentStatus
    from vllm_operator.api.v1alpha1 import VLLMDeployment
    from vllm_operator.cluster.quotas import Shortage
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.plan import Plan
    from vllm_operator.render.templates import Manifest
    from vllm_operator.runtime.children import Child
    from vllm_operator.runtime.pinning import Pin
    from vllm_operator.runtime.writer import Wanted

NO_ANNOTATIONS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Desired:
    """The objects, and what the condition Rendered says once they are written."""

    objects: tuple[Wanted, ...] | None
    """None: what is there stays as it is."""
    rendering: Rendering
    pinned_hash: str | None = None
    """Hash of the plan that the pods follow, where it is not the newest plan."""


def desired_by_plan(
    plan: Plan,
    deployment: VLLMDeployment,
    *,
    uid: str,
    workload: Child | None,
    keep: bool,
    served: Collection[str],
    shortage: Shortage | None = None,
    quotas_allow_surge: bool = True,
    annotations: Mapping[str, str] = NO_ANNOTATIONS,
) -> Desired:
    """Return what the plan, and the pods that run already, ask for.

    `workload` is the object of that name that runs pods, if there is one, and `keep` says that pods of it hold GPUs: as
    long as they are of the same spec they stay as they are. `served`: the optional kinds that the cluster has.
    `shortage`: what the namespace's quotas do not let be made; where that is every replica, none is asked for, as a pod
    that was refused is tried again ever less often. `quotas_allow_surge`: whether they let one replica more be made.
    `annotations`: what the workload is to keep beside its pods.

    Raises:
        RenderError: the plan, or the spec's overlay, cannot be made into objects.
    """
    namespace, name = deployment.metadata.namespace, deployment.metadata.name
    pods = pods_of_spec(deployment.spec)
    pin = _pin_of(workload, uid, pods) if keep else None
    refused = plan.verdict is Verdict.DOES_NOT_FIT and deployment.spec.policy.admission is not Admission.OFF
    if refused and pin is not None:
        text = f"the running pods keep their plan although it would not fit today: {plan.message}"
        return Desired(None, Rendering(reasons.STALE, text), pin.plan_hash)
    if refused or not plan.renderable:
        left = "; the workload of an earlier generation is left running" if workload is not None else ""
        why = "the deployment does not fit" if refused else "no GPU class is known that it could run on"
        return Desired(None, Rendering(reasons.WITHHELD, f"{why}{left}: {plan.message}"))
    plan = replace(plan, has_room_for_surge=_surges(plan, workload, uid, pods, allowed=quotas_allow_surge))
    asked = deployment.spec.policy.admission is not Admission.OFF
    if asked and workload is None and shortage is not None and not shortage.allowed:
        return Desired(None, Rendering(reasons.QUOTA_EXCEEDED, shortage.message))
    manifests = render(plan, deployment, namespace=namespace, name=name, uid=uid)
    stale = pin is not None and not same_pods(pin, workload_of(manifests))
    if pin is not None and workload_of(manifests)["kind"] != pin.kind:
        manifests = render(_over_nodes(plan, pin), deployment, namespace=namespace, name=name, uid=uid)
    manifests = [_pinned(manifest, pin, pods, annotations) for manifest in manifests]
    extra = render_optional(plan, deployment, workload=workload_of(manifests), uid=uid, served=served)
    manifests += extra.objects
    text = f"{len(manifests)} objects are applied"
    if stale:
        text += "; the running pods keep the plan that they started with, a new one would differ"
    for omitted in extra.left_out:
        text += f"; no {omitted.kind} is made: {omitted.why}"
    rendering = Rendering(reasons.APPLIED_IN_PART if extra.left_out else reasons.APPLIED, text)
    return Desired(wanted_of(manifests), rendering, pin.plan_hash if pin is not None else None)


def desired_without_plan(
    deployment: VLLMDeployment,
    model: ModelFacts | ModelError | None,
    previous: VLLMDeploymentStatus,
    *,
    has_objects: bool,
) -> Desired:
    """Leave what runs as it is: facts that cannot be had now say nothing about it."""
    rendered = find_condition(previous.conditions, reasons.RENDERED)
    same = previous.observed_generation == deployment.metadata.generation
    if same and rendered is not None and rendered.status == "True" and has_objects:
        return Desired(None, Rendering(rendered.reason, rendered.message))
    why = "its facts cannot be had" if isinstance(model, ModelError) else "its facts are being loaded"
    return Desired(None, Rendering(reasons.WITHHELD, f"nothing is rendered for a model as long as {why}"))


def _pin_of(workload: Child | None, uid: str, pods: str) -> Pin | None:
    """Return what the running pods are pinned to, if that belongs to the spec as it is."""
    pin = read_pin(workload.body()) if workload is not None and workload.owner_uid == uid else None
    return pin if pin is not None and pin.pods_of_spec == pods else None


def _surges(plan: Plan, workload: Child | None, uid: str, pods: str, *, allowed: bool) -> bool:
    """Whether a rollout starts a pod before it ends one, where the spec leaves that to us.

    It is decided when the pods' spec changes, and kept while free GPUs come and go. Only a rollout under way that has
    lost its room, or whose pod is refused, goes on in place: that pod would be waited for for ever.
    """
    room = plan.has_room_for_surge and allowed
    if workload is None or workload.rollout is None or _pin_of(workload, uid, pods) is None:
        return room
    why = workload.body()["metadata"]["annotations"].get(ROLLOUT_ANNOTATION)
    if why == WITH_SURGE:
        return workload.rollout.complete or (room and not workload.rollout.failure_message)
    return room and why != IN_PLACE


def with_complaints(rendering: Rendering, children: Iterable[Child], *, unread: Mapping[str, str]) -> Rendering:
    """Return what the condition Rendered says, with the complaints about objects that are applied.

    `unread`: kinds that the operator may not list any more, and why.
    """
    if rendering.reason not in (reasons.APPLIED, reasons.APPLIED_IN_PART):
        return rendering
    known = sorted(children, key=lambda child: child.id)
    serves = any(child.rollout is not None and child.rollout.available for child in known)
    complaints = [
        f"the {child.id[0]} does not work: {child.complaint}"
        for child in known
        if child.complaint and (serves or child.id[0] not in NEEDS_PODS)
    ]
    complaints += [
        f"the {child.id[0]} may not be read any more, what is said of it is what was seen last: {unread[child.id[0]]}"
        for child in known
        if child.id[0] in unread
    ]
    if not complaints:
        return rendering
    reason = reasons.PART_NOT_WORKING if rendering.reason == reasons.APPLIED else rendering.reason
    return Rendering(reason, "; ".join([rendering.message, *complaints]))


def workload_kind(plan: Plan | None) -> str:
    """Return the kind of object that runs the pods of a plan."""
    is_spread = plan is not None and plan.placement is not None and plan.placement.nodes_per_replica > 1
    return "LeaderWorkerSet" if is_spread else "Deployment"


def _over_nodes(plan: Plan, pin: Pin) -> Plan:
    """Return a plan that renders the kind of object that the pods are pinned to, which takes its pods from the pin."""
    assert plan.placement is not None
    return replace(plan, placement=replace(plan.placement, nodes_per_replica=pin.nodes_per_replica))


def _pinned(manifest: Manifest, pin: Pin | None, pods: str, annotations: Mapping[str, str]) -> Manifest:
    if manifest["kind"] not in WORKLOADS:
        return manifest
    pinned = pinned_to(manifest, pin) if pin is not None else with_pin(manifest, pods)
    metadata = pinned["metadata"]
    return {**pinned, "metadata": {**metadata, "annotations": {**metadata["annotations"], **annotations}}}
