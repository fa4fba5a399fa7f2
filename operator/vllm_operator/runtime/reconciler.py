"""Key → snapshot → plan → difference → apply → status. Reads come from memory only; equal means no call."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import conditions as c
from vllm_operator.api.spec import Admission
from vllm_operator.api.v1alpha1 import API_VERSION, KIND
from vllm_operator.models.errors import ModelError
from vllm_operator.planning.decide import OperatorDefaults, plan
from vllm_operator.planning.plan import Verdict
from vllm_operator.render.objects import render
from vllm_operator.runtime.children import HASH_ANNOTATION, Children, child_id, covers, rollout_of
from vllm_operator.runtime.events import Happening
from vllm_operator.runtime.facts import RETRY_SECONDS
from vllm_operator.runtime.kube import BY_KIND, ApiError
from vllm_operator.runtime.pinning import can_still_run, pinned_plan, with_pinned
from vllm_operator.runtime.status import (
    Finding,
    Outcome,
    feasible_finding,
    model_finding,
    status_of,
    workload_findings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.api.v1alpha1 import VLLMDeployment
    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.cluster.state import ClusterState
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.plan import Plan
    from vllm_operator.runtime.children import ChildId
    from vllm_operator.runtime.events import EventRecorder
    from vllm_operator.runtime.facts import FactsBook
    from vllm_operator.runtime.kube import Kube, Manifest
    from vllm_operator.runtime.resources import Known, Resources

_LOGGER = logging.getLogger(__name__)

OPTIONAL_KINDS: Final = frozenset({"PersistentVolumeClaim"})
"""Kinds that a later generation may no longer want. A claim is kept: it holds what the user downloaded."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A plan and the inventory that it was made on, for finding out whether a change of the cluster matters."""

    plan: Plan
    inventory: Inventory


@dataclass(slots=True, kw_only=True)
class Reconciler:
    """Brings what the cluster has to what a VLLMDeployment asks for."""

    kube: Kube
    resources: Resources
    children: Children
    cluster: ClusterState
    facts: FactsBook
    events: EventRecorder
    defer: Callable[[str], None]
    """Called with a key whose Service has to be applied: that lane is slower than the Deployments'."""
    now: Callable[[], str]
    defaults: OperatorDefaults = field(default_factory=OperatorDefaults)
    judgements: dict[str, Judgement] = field(default_factory=dict)
    _services: dict[str, Manifest] = field(default_factory=dict)

    async def reconcile(self, key: str) -> float | None:
        """Bring one VLLMDeployment up to date; returns the seconds after which to look again, None for never.

        Raises:
            ApiError, Unreachable: the API server refused or did not answer; the caller tries again.
        """
        known = self.resources.get(key)
        if known is None:
            self._forget(key)
            return None
        if known.deployment is None:
            await self._report_invalid(known)
            return None
        facts = self.facts.outcome(key, known.deployment)
        judged = self._judge(key, known, known.deployment, facts)
        withheld = _withheld(known.deployment, judged, facts)
        applied = Finding(c.RENDERED, "False", c.WITHHELD, withheld or "")
        if withheld is None:
            applied = await self._apply(key, known, known.deployment, judged)
        await self._write_status(key, known, facts, judged, applied, withheld)
        return RETRY_SECONDS if facts is None or isinstance(facts, ModelError) else None

    async def apply_service(self, key: str) -> None:
        """Apply what was deferred for a key, if it is still wanted."""
        manifest = self._services.pop(key, None)
        if manifest is None or self.resources.get(key) is None:
            return
        if self._differs(manifest, self.children.of(key)):
            try:
                await self.kube.apply(manifest)
            except BaseException:
                self._services.setdefault(key, manifest)
                raise

    def _judge(self, key: str, known: Known, deployment: VLLMDeployment, facts: ModelFacts | ModelError | None) -> Plan:
        inventory = self.cluster.snapshot().crediting(key)
        fresh = plan(
            deployment.spec,
            None if isinstance(facts, ModelError) else facts,
            inventory,
            defaults=self.defaults,
        )
        self.judgements[key] = Judgement(fresh, self.cluster.snapshot())
        pinned = pinned_plan(known.previous, generation=known.generation)
        child = self.children.of(key).get(("Deployment", known.name))
        if pinned is None or child is None:
            return fresh
        if can_still_run(pinned, inventory):
            return with_pinned(fresh, pinned)
        if rollout_of(child).available:
            stale = (
                "the nodes that this plan relied on have changed; running pods are left alone, new ones may not start"
            )
            return replace(with_pinned(fresh, pinned), warnings=(stale, *fresh.warnings))
        return fresh

    async def _apply(self, key: str, known: Known, deployment: VLLMDeployment, judged: Plan) -> Finding:
        manifests = render(judged, deployment, namespace=known.namespace, name=known.name, uid=known.uid)
        observed = self.children.of(key)
        for manifest in manifests:
            stamped = _stamped(manifest)
            if not self._differs(stamped, observed):
                continue
            if manifest["kind"] == "Service":
                self._services[key] = stamped
                self.defer(key)
                continue
            try:
                await self.kube.apply(stamped)
            except ApiError as error:
                if error.status not in (403, 409, 422):
                    raise
                _LOGGER.warning("object refused", extra={"key": key, "kind": manifest["kind"], "reason": str(error)})
                reason = c.CONFLICT if error.status == 409 else c.APPLY_FAILED
                return Finding(
                    c.RENDERED, "False", reason, f"{manifest['kind']} {manifest['metadata']['name']}: {error}"
                )
            _LOGGER.info("applied", extra={"key": key, "kind": manifest["kind"], "generation": known.generation})
        await self._remove_unwanted(key, known, manifests, observed)
        return Finding(c.RENDERED, "True", c.APPLIED, f"rendered for generation {known.generation}, plan {judged.hash}")

    async def _remove_unwanted(
        self, key: str, known: Known, manifests: list[Manifest], observed: Mapping[ChildId, Manifest]
    ) -> None:
        wanted = {child_id(manifest) for manifest in manifests}
        for child, manifest in list(observed.items()):
            if child not in wanted and child[0] not in OPTIONAL_KINDS:
                metadata = manifest["metadata"]
                await self.kube.delete(BY_KIND[child[0]], known.namespace, metadata["name"], uid=metadata["uid"])
                _LOGGER.info("removed", extra={"key": key, "kind": child[0]})

    def _differs(self, stamped: Manifest, observed: Mapping[ChildId, Manifest]) -> bool:
        there = observed.get(child_id(stamped))
        return there is None or not covers(there, stamped)

    async def _report_invalid(self, known: Known) -> None:
        """A spec that the CRD let through but this version cannot read: said, not guessed at."""
        assert known.error is not None
        finding = Finding(c.SPEC_VALID, "False", c.INVALID, str(known.error))
        withheld = "the spec is not valid"
        outcome = Outcome(
            name=known.name,
            generation=known.generation,
            plan=None,
            findings=(finding, *workload_findings(None, withheld=withheld)),
        )
        await self._send(known, status_of(outcome, known.previous, now=self.now()))

    async def _write_status(
        self, key: str, known: Known, facts: object, judged: Plan, applied: Finding, withheld: str | None
    ) -> None:
        child = self.children.of(key).get(("Deployment", known.name))
        rollout = rollout_of(child) if child else None
        outcome = Outcome(
            name=known.name,
            generation=known.generation,
            plan=judged,
            findings=(
                Finding(c.SPEC_VALID, "True", c.VALID, "the spec is valid"),
                model_finding(facts),
                feasible_finding(judged),
                applied,
                *workload_findings(rollout, withheld=withheld),
            ),
            rollout=rollout,
        )
        status = status_of(outcome, known.previous, now=self.now())
        self._tell(known, outcome)
        await self._send(known, status)

    async def _send(self, known: Known, status: dict[str, Any]) -> None:
        if status == known.status:
            return
        metadata = {"name": known.name, "namespace": known.namespace, "uid": known.uid}
        await self.kube.apply_status({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": status})

    def _tell(self, known: Known, outcome: Outcome) -> None:
        """Record an Event for each condition that took another status or reason."""
        before = {condition.type: condition for condition in known.previous.conditions}
        for finding in outcome.findings:
            old = before.get(finding.type)
            if finding.type not in (c.FEASIBLE, c.MODEL_RESOLVED, c.READY) or finding.status == "Unknown":
                continue
            if old is not None and (old.status, old.reason) == (finding.status, finding.reason):
                continue
            if old is None and finding.type == c.READY:
                continue
            kind = "Normal" if finding.status == "True" or finding.reason == c.ROLLING_OUT else "Warning"
            self.events.record(
                Happening(known.namespace, known.name, known.uid, kind, finding.reason, finding.type, finding.message)
            )

    def _forget(self, key: str) -> None:
        self.facts.forget(key)
        self.judgements.pop(key, None)
        self._services.pop(key, None)


def _withheld(deployment: VLLMDeployment, judged: Plan, facts: object) -> str | None:
    """Why no workload is rendered, None when one is."""
    if not judged.renderable:
        return judged.message
    if deployment.spec.policy.admission is Admission.OFF:
        return None
    if facts is None:
        return "the model's facts are being loaded"
    if isinstance(facts, ModelError):
        return str(facts)
    return judged.message if judged.verdict is Verdict.DOES_NOT_FIT else None


def _stamped(manifest: Manifest) -> Manifest:
    """Add the hash of what is applied, so that a field which is no longer rendered is noticed too."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    metadata = manifest["metadata"]
    annotations = {
        **(metadata.get("annotations") or {}),
        HASH_ANNOTATION: hashlib.sha256(text.encode()).hexdigest()[:16],
    }
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}
