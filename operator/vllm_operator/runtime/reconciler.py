"""One VLLMDeployment: what is known of it, what follows from that, and the writes that bring it about.

Everything is read from memory; a reconcile that finds the cluster as it should be asks the API server nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vllm_operator.api import conditions as reasons
from vllm_operator.api.v1alpha1 import Admission, AutoAdjust, SpecError, parse_deployment
from vllm_operator.models.errors import ModelError
from vllm_operator.planning.adjustment import adjusted
from vllm_operator.planning.footing import Ground, footing_of
from vllm_operator.render.errors import RenderError
from vllm_operator.runtime.adjusting import adjustment_of, annotations_of
from vllm_operator.runtime.desired import desired_by_plan, desired_without_plan, with_complaints, workload_kind
from vllm_operator.runtime.failures import classify
from vllm_operator.runtime.kube import OPTIONAL_CHILDREN, ApiError, Unreachable
from vllm_operator.runtime.remembered import Awaited, Brought, Settled, Underway
from vllm_operator.runtime.reporting import Reporter
from vllm_operator.runtime.status import Rendering, Situation
from vllm_operator.runtime.writer import OwnerGone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.api.status import PlanStatus, VLLMDeploymentStatus
    from vllm_operator.api.v1alpha1 import VLLMDeployment
    from vllm_operator.cluster.quotas import Shortage
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.adjustment import Adjustment
    from vllm_operator.planning.footing import Footing
    from vllm_operator.planning.plan import Plan
    from vllm_operator.runtime.children import Child, ChildId
    from vllm_operator.runtime.desired import Desired
    from vllm_operator.runtime.shared import Shared
    from vllm_operator.runtime.writer import Wanted

LOADING_GRACE_SECONDS: Final = 2.0
"""Facts that come within this time save a status that would be written for nothing; a burst makes a load slow."""
LATE_KINDS: Final = frozenset({"Service"})
"""Kinds of which the API server makes only some fifty a second: they wait in a lane of their own."""
OPTIONAL_KINDS: Final = frozenset(resource.kind for resource in OPTIONAL_CHILDREN)
"""Kinds without which a model is served all the same: what keeps one from being made holds nothing up."""


class Reconciler:
    """Works on one key at a time; the queue sees to it that no key is worked on twice at once."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._reporter = Reporter(shared)
        self._settled: dict[str, Settled] = {}
        self._underway: dict[str, Underway] = {}
        self._late: dict[str, tuple[str, tuple[Wanted, ...]]] = {}
        self._late_problems: dict[str, Rendering] = {}

    def entries(self) -> int:
        """Return how much is kept, for whoever watches that it does not grow."""
        return len(self._settled) + len(self._underway) + len(self._late) + len(self._late_problems)

    async def reconcile(self, key: str) -> None:
        """Bring one VLLMDeployment to where it should be.

        Raises:
            ApiError: the API server refused for now.
            Unreachable: it did not answer.
        """
        shared = self._shared
        await shared.turns.take()
        stored = shared.resources.get(key)
        if stored is None:
            self._forget(key)
            return
        if stored.deleting:
            return
        previous = self._reporter.previous(key)
        situation = Situation(
            name=key.partition("/")[2],
            generation=stored.generation,
            previous=previous,
            failure=classify(shared.pods.of(key)),
        )
        try:
            deployment = parse_deployment(stored.body())
        except SpecError as error:
            await self._reporter.report(key, stored.uid, replace(situation, spec_problems=error.problems))
            return
        model = shared.facts.outcome(key, deployment)
        if model is None and shared.facts.seconds_loading(key) < LOADING_GRACE_SECONDS:
            shared.queue.add_after(key, LOADING_GRACE_SECONDS)
            return
        asked = deployment.spec
        adjustment = self._adjustment(key, stored.uid, asked, previous)
        if adjustment is not None:
            shared.recorder.tell(key, stored.uid, "Warning", reasons.AUTO_ADJUSTED, adjustment.message)
            deployment = deployment.model_copy(update={"spec": adjusted(asked, adjustment)})
        plan = self._plan(key, deployment, model, adjustment)
        shortage = shared.quotas.shortage(key, plan) if plan is not None else None
        shared.quotas.waits(key, shortage)
        try:
            annotations = annotations_of(asked, adjustment) if adjustment is not None else {}
            brought = await self._bring_about(key, stored.uid, deployment, plan, model, previous, shortage, annotations)
        except OwnerGone:
            shared.doubted()
            return
        pinned = previous.plan if previous.plan is not None and previous.plan.hash == brought.pinned_hash else None
        if plan is not None:
            facts = None if isinstance(model, ModelError) else model
            seen = shared.observed.see(key, deployment.spec, plan, facts, previous.observed)
            if unstated := shared.quotas.warning(key, plan):
                seen = replace(seen, plan=replace(seen.plan, warnings=(unstated, *seen.plan.warnings)))
            situation = replace(situation, plan=seen.plan, observed=seen.observed, findings=seen.findings)
        situation = replace(
            situation,
            model=model,
            pinned_plan=pinned,
            shortage=shortage,
            adjustment=adjustment,
            footing=self._footing(key, plan, pinned),
            rendering=self._rendering(key, brought, plan),
            rollout_is_wanted=brought.settled,
        )
        await self._reporter.report(key, stored.uid, situation)
        if (seconds := shared.facts.seconds_to_retry(key)) is not None:
            shared.queue.add_after(key, seconds)

    async def write_late(self, key: str) -> None:
        """Write the objects of a deployment that have a lane of their own.

        Raises:
            ApiError: the API server refused for now.
            Unreachable: it did not answer.
        """
        uid, wanted = self._late.pop(key, ("", ()))
        stored = self._shared.resources.get(key)
        if stored is None or stored.uid != uid or stored.deleting:
            return
        try:
            problem = None
            differing = self._shared.writer.differing(key, uid, wanted)
            await self._shared.writer.confirm(key, uid, differing)
            for one in differing:
                problem = await self._shared.writer.write(key, uid, one) or problem
        except OwnerGone:
            self._shared.doubted()
            return
        except (ApiError, Unreachable):
            self._late.setdefault(key, (uid, wanted))
            raise
        before = self._late_problems.pop(key, None)
        if problem is not None:
            self._late_problems[key] = problem
            self._shared.queue.retry(key)
        if problem != before or (problem is None and not self._came_last(key, uid, wanted)):
            self._shared.queue.add(key)

    def _rendering(self, key: str, brought: Brought, plan: Plan | None) -> Rendering:
        """Return what is said of the objects; without a plan it is what was said before, complaints included."""
        rendering = self._late_problems.get(key, brought.rendering)
        if plan is None:
            return rendering
        return with_complaints(rendering, self._shared.children.of(key).values(), unread=self._shared.unread())

    def _footing(self, key: str, plan: Plan | None, pinned: PlanStatus | None) -> Footing | None:
        """Return what has become of the nodes on which the pods run, by the plan that they follow."""
        ground = Ground.of_plan(plan, pinned)
        if ground is None:
            return None
        names = {pod.node_name for pod in self._shared.pods.of(key) if pod.node_name is not None}
        return footing_of(ground, ((name, self._shared.cluster.offers_on(name)) for name in names))

    def _came_last(self, key: str, uid: str, late: tuple[Wanted, ...]) -> bool:
        """Whether the late objects were all that was missing, and the status is the same with them.

        It is while a rollout goes on, whose next step is looked at anyway.
        """
        underway = self._underway.get(key)
        if underway is None or underway.awaited is None:
            return False
        awaited, live = underway.awaited, _fingerprints(self._shared.children.of(key))
        workload = self._shared.children.workload(key, workload_kind(underway.plan))
        if workload is None or workload.rollout is None or workload.rollout.complete:
            return False
        same = live == {**live, **awaited.others} and set(live) == {*awaited.others, *(one.id for one in late)}
        if not same or self._shared.writer.differing(key, uid, late):
            return False
        self._settle(key, awaited.inputs, awaited.brought)
        return True

    def _forget(self, key: str) -> None:
        shared = self._shared
        shared.facts.forget(key)
        shared.fleet.forget(key)
        shared.observed.forget(key)
        shared.quotas.forget(key)
        shared.recorder.forget(key)
        shared.queue.forget(key)
        for known in (self._settled, self._underway, self._late, self._late_problems):
            known.pop(key, None)

    def _adjustment(
        self, key: str, uid: str, asked: VLLMDeploymentSpec, previous: VLLMDeploymentStatus
    ) -> Adjustment | None:
        """Return how much less than was asked for the pods are to be given, where their user leaves that to us."""
        if asked.policy.auto_adjust is not AutoAdjust.SAFE:
            return None
        workload = self._shared.children.workload(key, workload_kind(None))
        return adjustment_of(asked, workload, self._shared.pods.of(key), previous.plan, uid=uid)

    def _plan(
        self,
        key: str,
        deployment: VLLMDeployment,
        model: ModelFacts | ModelError | None,
        adjustment: Adjustment | None,
    ) -> Plan | None:
        """Plan on the newest inventory; without facts only for those who want no judgement."""
        facts = None if isinstance(model, ModelError) else model
        if facts is None and deployment.spec.policy.admission is not Admission.OFF:
            return None
        inventory = self._shared.cluster.snapshot()
        metadata = deployment.metadata
        capabilities = self._shared.planner.capabilities()
        planned_on = (metadata.uid, metadata.generation, adjustment, inventory.version, facts, capabilities)
        underway = self._underway.get(key)
        if underway is not None and underway.planned_on == planned_on:
            return underway.plan
        plan = self._shared.planner.plan(key, deployment.spec, facts, inventory)
        self._shared.fleet.judged(key, plan, inventory)
        self._underway[key] = Underway(planned_on, plan)
        return plan

    async def _bring_about(
        self,
        key: str,
        uid: str,
        deployment: VLLMDeployment,
        plan: Plan | None,
        model: ModelFacts | ModelError | None,
        previous: VLLMDeploymentStatus,
        shortage: Shortage | None,
        annotations: Mapping[str, str],
    ) -> Brought:
        shared = self._shared
        live = shared.children.of(key)
        bound = any(pod.node_name is not None for pod in shared.pods.of(key))
        inputs = (
            uid,
            deployment.metadata.generation,
            (plan.hash, plan.verdict, plan.has_room_for_surge) if plan is not None else None,
            bound,
            shared.served(),
            shortage,
        )
        settled = self._settled.get(key)
        if settled is not None and settled.inputs == (*inputs, _fingerprints(live)):
            self._underway.pop(key, None)
            return settled.brought
        self._settled.pop(key, None)
        if plan is None:
            desired = desired_without_plan(deployment, model, previous, has_objects=bool(live))
            return Brought(desired.rendering, settled=desired.rendering.status == "True")
        try:
            desired = self._desired(key, deployment, uid, plan, keep=bound, shortage=shortage, annotations=annotations)
        except RenderError as error:
            return Brought(Rendering(reasons.APPLY_FAILED, str(error)))
        wanted, rendering = desired.objects, desired.rendering
        if wanted is None:
            return Brought(rendering, desired.pinned_hash)
        problem, missing = await self._write(key, uid, wanted)
        if problem is not None:
            shared.queue.retry(key)
            return Brought(problem, desired.pinned_hash)
        left = await shared.writer.remove_unwanted(key, uid, wanted)
        needed = [one for one in wanted if one.id[0] not in OPTIONAL_KINDS]
        brought = Brought(rendering, desired.pinned_hash, settled=shared.writer.settled(key, needed))
        if missing is not None or left:
            shared.queue.retry(key)
            text = rendering.message if missing is None else f"{rendering.message}, but for one: {missing.message}"
            text = f"{text}; {left}" if left else text
            return replace(brought, rendering=Rendering(reasons.APPLIED_IN_PART, text))
        if self._is_in_place(key, uid, wanted):
            return self._settle(key, inputs, brought)
        self._await_late(key, uid, wanted, inputs, brought)
        return brought

    def _await_late(
        self, key: str, uid: str, wanted: tuple[Wanted, ...], inputs: tuple[object, ...], brought: Brought
    ) -> None:
        """Keep what is needed to settle when the late objects have come, if they are all that is missing."""
        underway, early = self._underway.get(key), [one for one in wanted if one.id[0] not in LATE_KINDS]
        if underway is None or self._shared.writer.differing(key, uid, early):
            return
        live = self._shared.children.of(key)
        others = {one.id: live[one.id].fingerprint for one in early}
        self._underway[key] = replace(underway, desired=None, awaited=Awaited(inputs, brought, others))

    def _is_in_place(self, key: str, uid: str, wanted: tuple[Wanted, ...]) -> bool:
        """Whether the objects are as wanted at this moment: one may have been edited since it was written."""
        live = self._shared.children.of(key)
        return set(live) == {one.id for one in wanted} and not self._shared.writer.differing(key, uid, wanted)

    def _settle(self, key: str, inputs: tuple[object, ...], brought: Brought) -> Brought:
        """Note that everything is in place; needs `_is_in_place` at the same moment."""
        brought = replace(brought, settled=True)
        self._settled[key] = Settled((*inputs, _fingerprints(self._shared.children.of(key))), brought)
        self._underway.pop(key, None)
        return brought

    def _desired(
        self,
        key: str,
        deployment: VLLMDeployment,
        uid: str,
        plan: Plan,
        *,
        keep: bool,
        shortage: Shortage | None,
        annotations: Mapping[str, str],
    ) -> Desired:
        """As `desired_by_plan`, and the same again as long as it would be."""
        workload = self._shared.children.workload(key, workload_kind(plan))
        served = self._shared.served()
        rendered_from = (keep, workload.sight if workload is not None and keep else None, served, shortage)
        underway = self._underway.get(key)
        known = underway is not None and underway.plan is plan and underway.rendered_from == rendered_from
        if underway is not None and known and underway.desired is not None:
            return underway.desired
        desired = desired_by_plan(
            plan,
            deployment,
            uid=uid,
            workload=workload,
            keep=keep,
            served=served,
            shortage=shortage,
            quotas_allow_surge=self._shared.quotas.allows_surge(key, plan),
            annotations=annotations,
        )
        if underway is not None and underway.plan is plan:
            self._underway[key] = replace(underway, rendered_from=rendered_from, desired=desired)
        return desired

    async def _write(self, key: str, uid: str, wanted: tuple[Wanted, ...]) -> tuple[Rendering | None, Rendering | None]:
        """Write what differs but for the kinds that have their own lane.

        Returns what stands in the way, and what only keeps an optional object from being made.
        """
        late, missing = [], None
        differing = self._shared.writer.differing(key, uid, wanted)
        await self._shared.writer.confirm(key, uid, differing)
        for one in differing:
            if one.id[0] in LATE_KINDS:
                late.append(one)
            elif (problem := await self._shared.writer.write(key, uid, one)) is None:
                continue
            elif one.id[0] in OPTIONAL_KINDS:
                missing = problem
            else:
                return problem, missing
        if late:
            self._late[key] = (uid, tuple(late))
            self._shared.late_queue.add(key)
        return None, missing


def _fingerprints(objects: Mapping[ChildId, Child]) -> Mapping[ChildId, bytes]:
    """Return what tells whether an object is still the same."""
    return {child.id: child.sight for child in objects.values()}
