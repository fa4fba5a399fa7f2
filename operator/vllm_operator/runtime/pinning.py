"""What keeps a running model from being restarted for nothing: the pods of one spec stay as they were first rendered.

The pod template is kept beside the Deployment's own in an annotation, with a digest of the part of the spec that it was
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
_DIGITS: Final = 16
_NOT_OF_PODS: Final = {"replicas", "scaling", "service", "gateway", "monitoring", "network_policy", "rollout"}


@dataclass(frozen=True, slots=True)
class Pin:
    """A pod template and the digest of the spec that it belongs to."""

    pods_of_spec: str
    template: Manifest

    @property
    def plan_hash(self) -> str:
        """Hash of the plan that the template was rendered from."""
        return str(self.template["metadata"]["annotations"].get(PLAN_HASH_ANNOTATION, ""))


def pods_of_spec(spec: VLLMDeploymentSpec) -> str:
    """Return the digest of all that decides what the pods are; replicas and Service do not."""
    content = spec.model_dump(mode="json", exclude=_NOT_OF_PODS, exclude_defaults=True)
    content.get("policy", {}).pop("admission", None)
    return digest_of(content)


def read_pin(deployment: Mapping[str, Any]) -> Pin | None:
    """Return what a Deployment is pinned to; None when nothing readable says so."""
    text = (deployment["metadata"].get("annotations") or {}).get(PIN_ANNOTATION)
    if text is None:
        return None
    try:
        kept = json.loads(text)
        pin = Pin(str(kept["spec"]), kept["template"])
        return pin if isinstance(pin.template["metadata"]["annotations"], dict) else None
    except (ValueError, KeyError, TypeError):
        return None


def pinned_to(deployment: Manifest, pin: Pin) -> Manifest:
    """Return the Deployment with the pods, and the pin, of an earlier rendering."""
    pinned = {**deployment, "spec": {**deployment["spec"], "template": deepcopy(pin.template)}}
    annotations = {**(deployment["metadata"].get("annotations") or {}), PLAN_HASH_ANNOTATION: pin.plan_hash}
    pinned["metadata"] = {**deployment["metadata"], "annotations": annotations}
    return with_pin(pinned, pin.pods_of_spec)


def with_pin(deployment: Manifest, digest: str) -> Manifest:
    """Return the Deployment with its pod template pinned to the spec with this digest."""
    kept = json.dumps(
        {"spec": digest, "template": deployment["spec"]["template"]}, sort_keys=True, separators=(",", ":")
    )
    return _annotated(deployment, PIN_ANNOTATION, kept)


def same_pods(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two pod templates differ in nothing but the hash of their plan."""
    return _without_hash(one) == _without_hash(other)


def stamped(manifest: Manifest) -> Manifest:
    """Return a manifest that carries its own digest: a field that is dropped from it is noticed."""
    return _annotated(manifest, APPLIED_ANNOTATION, digest_of(manifest))


def digest_of(content: object) -> str:
    """Return a digest of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def _annotated(manifest: Manifest, key: str, value: str) -> Manifest:
    annotations = {**(manifest["metadata"].get("annotations") or {}), key: value}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}


def _without_hash(template: Mapping[str, Any]) -> Manifest:
    metadata = dict(template["metadata"])
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != PLAN_HASH_ANNOTATION}
    return {**template, "metadata": {**metadata, "annotations": annotations}}
