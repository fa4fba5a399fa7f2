"""What keeps a running model from being restarted for nothing: the pods of one spec stay as they were first rendered.

The pod template is kept beside the workload's own in an annotation, with a digest of the part of the spec that it was
made from. As long as that part is the same, neither another view of the cluster nor a newer operator changes it.
"""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.render.labels import PLAN_HASH_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.spec import VLLMDeploymentSpec

Manifest = dict[str, Any]

PIN_ANNOTATION: Final = "vllm-operator.io/pinned-template"
APPLIED_ANNOTATION: Final = "vllm-operator.io/applied-hash"
_PODS_ARE_IN: Final = {"Deployment": "template", "LeaderWorkerSet": "leaderWorkerTemplate"}
"""Field of the spec that decides what the pods are, by the kind that runs them."""
_ROLES: Final = ("leaderTemplate", "workerTemplate")
_DIGITS: Final = 16
_NOT_OF_PODS: Final = {"replicas", "scaling", "service", "gateway", "monitoring", "network_policy", "rollout"}
_POLICY: Final = "policy"
_NOT_OF_POLICY: Final = {"admission"}


@dataclass(frozen=True, slots=True)
class Pin:
    """What the pods of one object are made from, and the digest of the spec that it belongs to."""

    pods_of_spec: str
    kind: str
    """Of the object that runs the pods."""
    template: Manifest
    """The part of its spec that says what the pods are: a pod template, or the two of a group with its size."""

    @property
    def plan_hash(self) -> str:
        """Hash of the plan that the template was rendered from."""
        return str(_pod_templates(self.template)[0]["metadata"]["annotations"].get(PLAN_HASH_ANNOTATION, ""))

    @property
    def nodes_per_replica(self) -> int:
        """Pods of one replica."""
        return int(self.template.get("size", 1))


def pods_of_spec(spec: VLLMDeploymentSpec) -> str:
    """Return the digest of all that decides what the pods are; replicas and Service do not."""
    content = spec.model_dump(mode="json", exclude={*_NOT_OF_PODS, _POLICY}, exclude_defaults=True)
    # Left out where nothing else is in it: a policy that only admits differently must digest like none.
    policy = spec.policy.model_dump(mode="json", exclude=_NOT_OF_POLICY, exclude_defaults=True)
    return digest_of({**content, _POLICY: policy} if policy else content)


def read_pin(workload: Mapping[str, Any]) -> Pin | None:
    """Return what the object that runs the pods is pinned to; None when nothing readable says so."""
    text = (workload["metadata"].get("annotations") or {}).get(PIN_ANNOTATION)
    if text is None:
        return None
    try:
        kept = json.loads(text)
        pin = Pin(str(kept["spec"]), str(workload["kind"]), kept["template"])
        templates = _pod_templates(pin.template)
        return pin if all(isinstance(one["metadata"]["annotations"], dict) for one in templates) else None
    except (ValueError, KeyError, TypeError):
        return None


def pinned_to(workload: Manifest, pin: Pin) -> Manifest:
    """Return the object, of the kind that the pin is of, with the pods, and the pin, of an earlier rendering."""
    part = _PODS_ARE_IN[pin.kind]
    pinned = {**workload, "spec": {**workload["spec"], part: deepcopy(pin.template)}}
    annotations = {**(workload["metadata"].get("annotations") or {}), PLAN_HASH_ANNOTATION: pin.plan_hash}
    pinned["metadata"] = {**workload["metadata"], "annotations": annotations}
    return with_pin(pinned, pin.pods_of_spec)


def with_pin(workload: Manifest, digest: str) -> Manifest:
    """Return the object with what its pods are pinned to the spec with this digest."""
    kept = json.dumps({"spec": digest, "template": pods_of(workload)}, sort_keys=True, separators=(",", ":"))
    return _annotated(workload, PIN_ANNOTATION, kept)


def pods_of(workload: Mapping[str, Any]) -> Manifest:
    """Return the part of the object's spec that says what its pods are."""
    part: Manifest = workload["spec"][_PODS_ARE_IN[workload["kind"]]]
    return part


def same_pods(pin: Pin, workload: Mapping[str, Any]) -> bool:
    """Whether an object's pods differ from those that are pinned in nothing but the hash of their plan."""
    return pin.kind == workload["kind"] and _without_hash(pin.template) == _without_hash(pods_of(workload))


def stamped(manifest: Manifest) -> Manifest:
    """Return a manifest that carries its own digest: a field that is dropped from it is noticed."""
    return _annotated(manifest, APPLIED_ANNOTATION, digest_of(manifest))


def digest_of(content: object) -> str:
    """Return a digest of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def _annotated(manifest: Manifest, key: str, value: str) -> Manifest:
    annotations = {**(manifest["metadata"].get("annotations") or {}), key: value}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}


def _pod_templates(part: Mapping[str, Any]) -> list[Manifest]:
    """Return the pod templates of a part: the leader's, which serves, before the workers'."""
    return [part[role] for role in _ROLES] if "size" in part else [dict(part)]


def _without_hash(part: Mapping[str, Any]) -> Manifest:
    if "size" in part:
        return {**part, **{role: _without_hash(part[role]) for role in _ROLES}}
    metadata = dict(part["metadata"])
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != PLAN_HASH_ANNOTATION}
    return {**part, "metadata": {**metadata, "annotations": annotations}}
