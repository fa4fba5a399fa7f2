"""The reconciler against an API server in memory, with real facts, planner and templates."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.runtime.fake_kube import FakeKube

from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.state import ClusterState
from vllm_operator.models.source import FactsSource
from vllm_operator.planning.defaults import OperatorDefaults
from vllm_operator.render.optional import BUILT_IN
from vllm_operator.runtime.children import Children
from vllm_operator.runtime.earlier_crd import ASK_AGAIN_SECONDS
from vllm_operator.runtime.events import Recorder
from vllm_operator.runtime.facts import FactsBook
from vllm_operator.runtime.fleet import Fleet
from vllm_operator.runtime.hub import NoHub
from vllm_operator.runtime.kube import AUTOSCALERS, BY_KIND, DEPLOYMENTS, SERVICES, VLLM_DEPLOYMENTS, ApiError
from vllm_operator.runtime.observe import Observer
from vllm_operator.runtime.observe_book import ObservationBook
from vllm_operator.runtime.observed import Observed
from vllm_operator.runtime.planner import Planner
from vllm_operator.runtime.pods import Pods
from vllm_operator.runtime.queue import KeyQueue
from vllm_operator.runtime.quotas import Quotas
from vllm_operator.runtime.reconciler import Reconciler
from vllm_operator.runtime.resources import Resources
from vllm_operator.runtime.shared import Shared
from vllm_operator.runtime.turns import Turns
from vllm_operator.runtime.writer import NAMESPACE_TERMINATING, Writer

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "team/model"
MODEL = "Qwen/Qwen2.5-7B-Instruct"
NOW = "2026-01-01T00:00:00Z"


def node(
    name: str, *, memory_mib: int = 81559, gpus: int = 8, product: str = "NVIDIA-H100-80GB-HBM3"
) -> dict[str, Any]:
    amounts = {"nvidia.com/gpu": str(gpus), "cpu": "64", "memory": "512Gi", "pods": "110"}
    return {
        "metadata": {
            "name": name,
            "labels": {"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": str(memory_mib)},
        },
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def resource(generation: int = 1, uid: str = "cr-1", version: int = 1, **spec: Any) -> dict[str, Any]:
    workload = {"contextLength": 8192, "concurrency": 4}
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMDeployment",
        "metadata": {
            "name": "model",
            "namespace": "team",
            "uid": uid,
            "generation": generation,
            "resourceVersion": str(version),
        },
        "spec": {"model": {"uri": MODEL}, "workload": workload, **spec},
    }


def our_pod(node_name: str | None) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "vllm-operator", "app.kubernetes.io/instance": "model"}
    return {
        "metadata": {"name": "model-x", "namespace": "team", "uid": "pod-1", "labels": labels},
        "spec": {"nodeName": node_name} if node_name else {},
        "status": {"phase": "Running" if node_name else "Pending"},
    }


@dataclass
class World:
    """Everything around one reconciler; `watch` brings what was written back, as the watches would."""

    kube: FakeKube = field(default_factory=FakeKube)
    doubts: list[str] = field(default_factory=list)
    """Every time that the reconciler asked for a fresh list."""

    def __post_init__(self) -> None:
        self.resources, self.children, self.pods = Resources(), Children(), Pods()
        self.cluster = ClusterState()
        self.quotas = Quotas(self.cluster)
        self.queue: KeyQueue[str] = KeyQueue()
        self.observer = Observer(self.queue.add, jitter=lambda: 0.0005)
        self.book = ObservationBook(self.kube, namespace="operators", name="observations", reread_seconds=60)
        self.observed = Observed(self.observer, self.book, lambda: NOW)
        self.late: KeyQueue[str] = KeyQueue()
        self.facts = FactsBook(self.kube, FactsSource(NoHub()), changed=self.queue.add)
        self.recorder = Recorder(self.kube, instance="operator", now=lambda: NOW)
        self.now = NOW
        self.served: frozenset[str] = BUILT_IN
        self.unread: dict[str, str] = {}
        self.reconciler = Reconciler(
            Shared(
                kube=self.kube,
                resources=self.resources,
                children=self.children,
                pods=self.pods,
                cluster=self.cluster,
                facts=self.facts,
                observed=self.observed,
                quotas=self.quotas,
                fleet=Fleet(self.cluster.snapshot, self.queue.add),
                queue=self.queue,
                late_queue=self.late,
                doubted=lambda: self.doubts.append(KEY),
                served=lambda: self.served,
                unread=lambda: self.unread,
                writer=Writer(self.kube, self.children),
                recorder=self.recorder,
                planner=Planner(OperatorDefaults()),
                turns=Turns(),
                now=lambda: self.now,
            )
        )

    def nodes(self, *nodes: dict[str, Any]) -> None:
        self.cluster.replace_nodes([project_node(obj) for obj in nodes])

    async def reconcile(self) -> None:
        """Reconcile until nothing waits, as the workers would, the late lane included."""
        self.queue.add(KEY)
        while len(self.queue) or len(self.late) or self.loading():
            if len(self.queue):
                key = await self.queue.get()
                await self.reconciler.reconcile(key)
                self.queue.done(key)
            elif len(self.late):
                key = await self.late.get()
                await self.reconciler.write_late(key)
                self.late.done(key)
            else:
                await next(entry.task for entry in self.facts._entries.values() if entry.task)

    def loading(self) -> bool:
        return any(entry.task for entry in self.facts._entries.values())

    def watch(self) -> None:
        """Deliver every object, and the status, as the watches would."""
        for kind in BY_KIND.values():
            objects = [
                self.children.sight({**copy.deepcopy(obj), "kind": kind.kind})
                for (plural, _, _), obj in self.kube.objects.items()
                if plural == kind.plural
            ]
            self.children.replace(kind.kind, None, objects, self.kube._version)

    def write_resource(self, obj: dict[str, Any]) -> None:
        status = self.kube.statuses.get(("team", "model"))
        self.resources.upsert({**obj, **({"status": status} if status else {})})

    def status(self) -> Mapping[str, Any]:
        return self.kube.statuses[("team", "model")]

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(one for one in self.status()["conditions"] if one["type"] == kind)
        return found["status"], found["reason"]

    def deployment(self) -> dict[str, Any]:
        return self.kube.objects[("deployments", "team", "model")]

    def roll_out(self, available: int = 1) -> None:
        """Have the Deployment controller report on the newest generation."""
        deployment = self.deployment()
        deployment["status"] = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": 1,
            "updatedReplicas": 1,
            "readyReplicas": available,
            "availableReplicas": available,
        }
        deployment["metadata"]["resourceVersion"] = self.kube._next()
        self.watch()


def unavailable_service(verb: str, kind: str, name: str) -> None:
    """Refuse Services for now."""
    if kind == "Service":
        raise ApiError(503, "ServiceUnavailable", "the allocator is busy")


@pytest.fixture
async def world() -> World:
    made = World()
    made.nodes(node("h100-0"))
    made.write_resource(resource())
    return made


async def test_a_resource_becomes_its_objects_and_one_status(world: World) -> None:
    await world.reconcile()

    verbs = [(verb, kind) for verb, kind, _ in world.kube.writes]
    assert sorted(verbs) == sorted([("apply", "Deployment"), ("apply", "Service"), ("status", "VLLMDeployment")])
    assert world.kube.reads == []
    assert world.condition("Feasible") == ("True", "Fits")
    assert world.condition("Rendered") == ("True", "Applied")
    assert world.condition("Ready") == ("False", "PodsNotReady")
    assert all(one["observedGeneration"] == 1 for one in world.status()["conditions"])


async def test_every_condition_is_there_from_the_first_touch(world: World) -> None:
    await world.reconcile()
    types = {one["type"] for one in world.status()["conditions"]}
    assert types == {
        "Ready",
        "SpecValid",
        "ModelResolved",
        "Feasible",
        "Rendered",
        "Progressing",
        "Available",
        "Degraded",
    }


async def test_nothing_is_written_again_before_or_after_the_watch_has_seen_it(world: World) -> None:
    await world.reconcile()
    writes = len(world.kube.writes)

    await world.reconcile()
    world.now = "2026-01-02T00:00:00Z"
    world.watch()
    await world.reconcile()
    await world.reconcile()

    assert len(world.kube.writes) == writes


async def test_the_echo_of_our_own_writes_concerns_nobody(world: World) -> None:
    await world.reconcile()
    for (plural, _, _), obj in world.kube.objects.items():
        assert world.children.upsert(copy.deepcopy(obj)) is None, plural
    assert not len(world.queue)


async def test_an_edit_that_comes_while_another_object_is_written_is_restored(world: World) -> None:
    def edit_claim(verb: str, kind: str, name: str) -> None:
        if kind != "Deployment":
            return
        world.kube.refuse = lambda verb, kind, name: None
        (claim,) = (obj for (plural, _, _), obj in world.kube.objects.items() if plural == "persistentvolumeclaims")
        claim["metadata"]["labels"].clear()
        claim["metadata"]["resourceVersion"] = world.kube._next()
        owner = world.children.upsert(copy.deepcopy(claim))
        assert owner is not None
        world.queue.add(owner)

    cache = {"type": "PersistentVolumeClaim", "size": "100Gi"}
    world.write_resource(resource(version=2, generation=2, cache=cache))
    await world.reconcile()
    world.kube.refuse = edit_claim
    shorter = {"contextLength": 4096, "concurrency": 4}
    world.write_resource(resource(version=50, generation=3, cache=cache, workload=shorter))
    await world.reconcile()

    (claim,) = (obj for (plural, _, _), obj in world.kube.objects.items() if plural == "persistentvolumeclaims")
    assert claim["metadata"]["labels"]


async def test_a_model_that_waits_for_its_service_alone_is_ready_when_it_comes(world: World) -> None:
    world.kube.refuse = unavailable_service
    with pytest.raises(ApiError):
        await world.reconcile()
    world.roll_out()
    world.late.done(KEY)
    world.queue.add(KEY)
    with pytest.raises(ApiError):
        await world.reconcile()
    assert world.condition("Ready")[0] == "False"

    world.kube.refuse = lambda verb, kind, name: None
    world.late.done(KEY)
    world.late.add(KEY)
    while len(world.late) or len(world.queue):
        await world.reconcile()
    assert world.condition("Ready") == ("True", "ModelServed")


async def test_ready_means_that_pods_of_this_generation_are_available(world: World) -> None:
    await world.reconcile()
    world.watch()
    world.roll_out()
    await world.reconcile()
    assert world.condition("Ready") == ("True", "ModelServed")
    assert world.status()["readyReplicas"] == 1

    world.write_resource(resource(generation=2, version=50, workload={"contextLength": 4096, "concurrency": 4}))
    await world.reconcile()
    assert world.condition("Ready")[0] == "False"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda obj: obj["spec"]["template"]["spec"]["containers"][0].update(image="evil"), id="image"),
        pytest.param(lambda obj: obj["spec"]["template"]["spec"]["containers"][0]["args"].pop(), id="argument"),
        pytest.param(lambda obj: obj["spec"].update(replicas=7), id="replicas"),
        pytest.param(lambda obj: obj["metadata"]["labels"].pop("app.kubernetes.io/name"), id="label"),
        pytest.param(lambda obj: obj["metadata"]["annotations"].clear(), id="annotations"),
    ],
)
async def test_an_edit_of_what_is_ours_is_restored_by_one_write(world: World, damage: Any) -> None:
    await world.reconcile()
    world.watch()
    await world.reconcile()
    wanted = copy.deepcopy(world.deployment()["spec"])
    damage(world.deployment())
    world.deployment()["metadata"]["resourceVersion"] = world.kube._next()
    world.watch()
    writes = len(world.kube.writes)

    await world.reconcile()

    assert world.kube.writes[writes:][0] == ("apply", "Deployment", "model")
    assert [write for write in world.kube.writes[writes:] if write[0] == "apply"] == world.kube.writes[writes:][:1]
    assert world.deployment()["spec"] == wanted


async def test_a_field_of_somebody_else_is_left_alone(world: World) -> None:
    await world.reconcile()
    world.deployment()["metadata"]["annotations"]["team"] = "search"
    world.deployment()["metadata"]["resourceVersion"] = world.kube._next()
    world.watch()
    writes = len(world.kube.writes)
    await world.reconcile()
    assert world.kube.writes[writes:] == []


async def test_a_deployment_of_somebody_else_is_never_taken_over(world: World) -> None:
    theirs = {"metadata": {"name": "model", "namespace": "team"}, "spec": {"replicas": 3}}
    world.kube.put(DEPLOYMENTS, theirs)

    await world.reconcile()

    assert world.deployment()["spec"] == {"replicas": 3}
    assert world.condition("Rendered") == ("False", "Conflict")
    assert world.condition("Ready") == ("False", "Conflict")


async def test_a_service_of_somebody_else_holds_nothing_up_and_is_said(world: World) -> None:
    world.kube.put(SERVICES, {"metadata": {"name": "model", "namespace": "team"}, "spec": {}})

    await world.reconcile()

    assert world.deployment()["spec"]["replicas"] == 1
    assert world.condition("Rendered") == ("False", "Conflict")


async def test_what_does_not_fit_is_withheld_with_the_arithmetic(world: World) -> None:
    world.nodes(node("t4", memory_mib=15360, gpus=1, product="Tesla-T4"))
    await world.reconcile()
    assert [write for write in world.kube.writes if write[0] == "apply"] == []
    assert world.condition("Feasible") == ("False", "DoesNotFit")
    assert world.condition("Ready") == ("False", "DoesNotFit")


async def test_what_does_not_fit_is_rendered_when_admission_is_off(world: World) -> None:
    world.nodes(node("t4", memory_mib=15360, gpus=1, product="Tesla-T4"))
    world.write_resource(resource(generation=2, version=2, policy={"admission": "Off"}))
    await world.reconcile()
    assert world.condition("Feasible") == ("False", "DoesNotFit")
    assert world.condition("Rendered") == ("True", "Applied")


async def test_running_pods_keep_their_plan_when_the_cluster_changes(world: World) -> None:
    await world.reconcile()
    world.pods.upsert(our_pod("h100-0"))
    world.watch()
    world.roll_out()
    before = copy.deepcopy(world.deployment()["spec"]["template"])
    plan = world.status()["plan"]

    world.nodes(node("h100-0"), node("l40s", memory_mib=46068, gpus=4, product="NVIDIA-L40S"))
    await world.reconcile()

    assert world.deployment()["spec"]["template"] == before
    assert world.status()["plan"]["hash"] == plan["hash"]


async def test_pods_without_a_node_take_the_plan_of_the_cluster_as_it_is(world: World) -> None:
    await world.reconcile()
    world.pods.upsert(our_pod(None))
    world.watch()
    before = copy.deepcopy(world.deployment()["spec"]["template"])

    world.nodes(node("l40s", memory_mib=46068, gpus=4, product="NVIDIA-L40S"))
    await world.reconcile()

    assert world.deployment()["spec"]["template"] != before


async def test_a_running_workload_outlives_the_nodes_that_it_was_planned_for(world: World) -> None:
    await world.reconcile()
    world.pods.upsert(our_pod("h100-0"))
    world.watch()
    world.roll_out()
    await world.reconcile()

    world.nodes(node("t4", memory_mib=15360, gpus=1, product="Tesla-T4"))
    await world.reconcile()

    assert ("deployments", "team", "model") in world.kube.objects
    assert world.condition("Rendered") == ("True", "Stale")
    assert world.condition("Degraded") == ("True", "Stale")


async def test_scaling_does_not_change_the_pods(world: World) -> None:
    await world.reconcile()
    world.pods.upsert(our_pod("h100-0"))
    world.watch()
    before = copy.deepcopy(world.deployment()["spec"]["template"])
    world.nodes(node("h100-0"), node("l40s", memory_mib=46068, gpus=4, product="NVIDIA-L40S"))
    world.write_resource(resource(generation=2, version=60, replicas=3))
    await world.reconcile()
    assert world.deployment()["spec"]["replicas"] == 3
    assert world.deployment()["spec"]["template"] == before


async def test_a_namespace_that_is_being_deleted_ends_the_late_lane_and_asks_for_a_fresh_list(world: World) -> None:
    def refuse(verb: str, kind: str, name: str) -> None:
        if kind == "Service":
            raise ApiError(403, "Forbidden", "terminating", causes=frozenset({NAMESPACE_TERMINATING}))

    world.kube.refuse = refuse
    await world.reconcile()

    assert world.doubts == [KEY]
    assert ("services", "team", "model") not in world.kube.objects
    assert world.late.entries() == 0, "nothing is tried again"
    before = list(world.kube.writes)
    await world.reconciler.write_late(KEY)
    assert world.kube.writes == before


async def test_a_refusal_is_a_condition_and_is_tried_again(world: World) -> None:
    def refuse(verb: str, kind: str, name: str) -> None:
        if kind == "Deployment":
            raise ApiError(403, "Forbidden", "exceeded quota: gpus")

    world.kube.refuse = refuse
    await world.reconcile()
    assert world.condition("Rendered") == ("False", "ApplyFailed")
    assert "exceeded quota" in next(one for one in world.status()["conditions"] if one["type"] == "Rendered")["message"]
    assert KEY in world.queue._timers


async def test_a_server_that_cannot_answer_now_changes_no_status(world: World) -> None:
    def refuse(verb: str, kind: str, name: str) -> None:
        raise ApiError(429, "TooManyRequests", "later")

    world.kube.refuse = refuse
    with pytest.raises(ApiError):
        await world.reconcile()
    assert world.kube.statuses == {}


async def test_a_status_that_others_keep_from_being_written_is_not_lost(world: World) -> None:
    def contended(verb: str, kind: str, name: str) -> None:
        if verb == "status":
            raise ApiError(409, "Conflict", "the object has been modified; please apply your changes to the latest")

    world.kube.refuse = contended
    with pytest.raises(ApiError):
        await world.reconcile()
    assert world.doubts

    world.queue.done(KEY)  # as the worker does, whatever comes of a key
    world.kube.refuse = lambda *_: None
    await world.reconcile()
    assert ("team", "model") in world.kube.statuses


async def test_a_status_that_the_crd_wants_more_of_is_told_as_an_event_and_tried_again_much_later(world: World) -> None:
    def refuse(verb: str, kind: str, name: str) -> None:
        if verb == "status":
            raise ApiError(422, "Invalid", f'{kind} "{name}" is invalid: status.plan.hash: Required value')

    world.kube.refuse = refuse
    await world.reconcile()

    assert world.deployment()["spec"]["replicas"] == 1, "the pods wait for no status"
    wait = world.queue._timers[KEY].when() - asyncio.get_running_loop().time()
    assert wait > ASK_AGAIN_SECONDS - 60
    said = [world.recorder._waiting.get_nowait()[1] for _ in range(world.recorder._waiting.qsize())]
    (refused,) = (event for event in said if event["reason"] == "ApplyFailed")
    assert "status.plan.hash: Required value" in refused["note"]

    world.kube.refuse = lambda *_: None
    await world.reconcile()
    assert world.condition("Rendered") == ("True", "Applied")


async def test_the_status_of_a_resource_that_is_gone_is_a_reason_to_look_and_no_error(world: World) -> None:
    def gone(verb: str, kind: str, name: str) -> None:
        if verb == "status":
            raise ApiError(404, "NotFound", "not found")

    world.kube.refuse = gone
    await world.reconcile()
    assert world.doubts


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
async def test_an_object_that_others_write_all_the_time_is_tried_again_and_not_called_refused(
    world: World, known: bool
) -> None:
    if known:
        await world.reconcile()
        world.watch()
        world.write_resource(resource(generation=2, version=50, workload={"contextLength": 2048}))

    def contended(verb: str, kind: str, name: str) -> None:
        if verb == "apply" and kind == "Deployment":
            raise ApiError(409, "Conflict", "the object has been modified; please apply your changes to the latest")

    world.kube.refuse = contended
    statuses = dict(world.kube.statuses)
    with pytest.raises(ApiError) as refused:
        await world.reconcile()
    assert refused.value.status == 409
    assert world.kube.statuses == statuses


@pytest.mark.parametrize("owner", ["gone", "made anew", "being deleted"])
async def test_what_the_collector_took_is_not_made_anew_for_an_owner_that_is_gone(world: World, owner: str) -> None:
    await world.reconcile()
    world.watch()
    if owner != "gone":
        there = resource(uid="cr-2" if owner == "made anew" else "cr-1")
        if owner == "being deleted":
            there["metadata"]["deletionTimestamp"] = NOW
        world.kube.put(VLLM_DEPLOYMENTS, there)
    for plural in ("deployments", "services"):
        del world.kube.objects[(plural, "team", "model")]
    world.kube._next()
    world.watch()
    writes = len(world.kube.writes)

    await world.reconcile()

    assert world.kube.writes[writes:] == []
    assert world.doubts


async def test_what_somebody_took_is_made_anew_for_an_owner_that_is_there(world: World) -> None:
    await world.reconcile()
    world.watch()
    world.kube.put(VLLM_DEPLOYMENTS, resource())
    del world.kube.objects[("services", "team", "model")]
    world.kube._next()
    world.watch()

    await world.reconcile()

    assert ("services", "team", "model") in world.kube.objects
    assert ("find", "VLLMDeployment", "model") in world.kube.reads


async def test_the_objects_of_a_deleted_namesake_are_waited_for(world: World) -> None:
    await world.reconcile()
    world.watch()
    world.resources.remove(resource())
    world.resources.upsert(resource(uid="cr-2", version=90))
    writes = len(world.kube.writes)

    await world.reconcile()

    assert [write for write in world.kube.writes[writes:] if write[0] == "apply"] == []
    assert world.condition("Rendered") == ("False", "Conflict")


async def test_a_resource_that_is_being_deleted_is_left_alone(world: World) -> None:
    deleting = resource(version=2)
    deleting["metadata"]["deletionTimestamp"] = NOW
    world.write_resource(deleting)
    await world.reconcile()
    assert world.kube.writes == []


async def test_an_object_that_is_no_longer_wanted_is_removed(world: World) -> None:
    world.write_resource(resource(generation=2, version=2, cache={"type": "PersistentVolumeClaim", "size": "10Gi"}))
    await world.reconcile()
    claims = [key for key in world.kube.objects if key[0] == "persistentvolumeclaims"]
    assert len(claims) == 1
    world.watch()
    world.write_resource(resource(generation=3, version=70))
    await world.reconcile()
    assert [key for key in world.kube.objects if key[0] == "persistentvolumeclaims"] == []


@pytest.mark.parametrize("status", [403, 404, 422])
async def test_an_object_that_may_not_be_deleted_is_said_and_holds_no_status_up(world: World, status: int) -> None:
    world.write_resource(resource(generation=2, version=2, replicas=2, networkPolicy={}))
    await world.reconcile()
    world.watch()

    def refuse(verb: str, kind: str, name: str) -> None:
        if (verb, kind) == ("delete", "NetworkPolicy"):
            raise ApiError(status, "Refused", "a policy protects it")

    world.kube.refuse = refuse
    world.write_resource(resource(generation=3, version=70, replicas=1))
    await world.reconcile()
    assert kinds(world) == {"Deployment", "Service", "NetworkPolicy"}, "the budget goes all the same"
    assert world.status()["observedGeneration"] == 3
    assert world.condition("Rendered") == ("True", "AppliedInPart")
    message = next(one for one in world.status()["conditions"] if one["type"] == "Rendered")["message"]
    assert "the NetworkPolicy 'model' is no longer wanted and was not deleted" in message
    assert "a policy protects it" in message
    assert KEY in world.queue._timers
    world.kube.refuse = lambda verb, kind, name: None
    await world.reconcile()
    world.watch()
    await world.reconcile()
    assert kinds(world) == {"Deployment", "Service"}
    assert world.condition("Rendered") == ("True", "Applied")


async def test_a_kind_that_may_not_be_read_any_more_is_said_where_there_is_one(world: World) -> None:
    world.write_resource(resource(generation=2, version=2, networkPolicy={}))
    await world.reconcile()
    world.watch()
    writes = len(world.kube.writes)
    world.unread = {"NetworkPolicy": "networkpolicies is forbidden"}
    await world.reconcile()
    assert world.condition("Rendered") == ("True", "PartNotWorking")
    assert not [write for write in world.kube.writes[writes:] if write[0] in ("apply", "delete")]
    world.unread = {}
    await world.reconcile()
    assert world.condition("Rendered") == ("True", "Applied")


async def test_a_quota_of_limits_is_a_warning_until_the_pods_state_them_and_then_counted(world: World) -> None:
    hard = {"limits.memory": "100Gi"}
    world.quotas.upsert({"metadata": {"namespace": "team", "name": "memory"}, "spec": {"hard": hard}})
    await world.reconcile()
    assert "the ResourceQuota 'memory' of namespace team counts limits.memory" in world.status()["warnings"][0]
    assert world.condition("Rendered") == ("True", "Applied"), "a LimitRange may give the pods a limit"

    def limited(memory: str) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": "engine", "resources": {"limits": {"memory": memory}}}]}}

    world.watch()
    world.write_resource(resource(generation=2, version=70, podTemplate=limited("90Gi")))
    await world.reconcile()
    assert not [text for text in world.status().get("warnings", ()) if "ResourceQuota" in text]
    assert world.condition("Degraded") == ("False", "AsExpected")
    world.watch()
    world.write_resource(resource(generation=3, version=140, podTemplate=limited("101Gi")))
    await world.reconcile()
    assert world.condition("Degraded") == ("True", "QuotaExceeded")


async def test_an_unknown_model_says_so_and_renders_nothing(world: World) -> None:
    world.write_resource(resource(generation=2, version=2, model={"uri": "nobody/nothing"}))
    await world.reconcile()
    assert world.condition("ModelResolved") == ("False", "SourceOffline")
    assert world.condition("Ready") == ("False", "SourceOffline")
    assert [write for write in world.kube.writes if write[0] == "apply"] == []


async def test_a_spec_that_this_version_cannot_read_is_said(world: World) -> None:
    world.write_resource(resource(generation=2, version=2, workload={"contextLength": -1}))
    await world.reconcile()
    assert world.condition("SpecValid") == ("False", "Invalid")
    assert world.condition("Ready") == ("False", "Invalid")


def kinds(world: World) -> set[str]:
    return {obj["kind"] for obj in world.kube.objects.values()}


async def test_an_optional_object_comes_and_goes_with_the_wish_for_it(world: World) -> None:
    world.write_resource(resource(generation=2, version=2, replicas=2, networkPolicy={}))
    await world.reconcile()
    assert kinds(world) == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    world.watch()
    world.write_resource(resource(generation=3, version=70, replicas=1))
    await world.reconcile()
    assert kinds(world) == {"Deployment", "Service"}
    assert world.condition("Rendered") == ("True", "Applied")


async def test_what_the_cluster_has_no_api_for_is_said_and_made_once_it_has(world: World) -> None:
    world.write_resource(resource(generation=2, version=2, monitoring={"podMonitor": "On"}))
    await world.reconcile()
    assert world.condition("Rendered") == ("True", "AppliedInPart")
    message = next(one for one in world.status()["conditions"] if one["type"] == "Rendered")["message"]
    assert "no PodMonitor is made: the cluster does not serve monitoring.coreos.com/v1" in message
    world.watch()
    world.served |= {"PodMonitor"}
    await world.reconcile()
    assert "PodMonitor" in kinds(world)
    assert world.condition("Rendered") == ("True", "Applied")


async def test_what_is_left_out_does_not_keep_the_model_from_being_ready(world: World) -> None:
    world.write_resource(resource(generation=2, version=2, monitoring={"podMonitor": "On"}))
    await world.reconcile()
    world.roll_out()
    await world.reconcile()
    assert world.condition("Ready") == ("True", "ModelServed")


async def test_optional_objects_do_not_change_running_pods(world: World) -> None:
    await world.reconcile()
    world.watch()
    world.pods.upsert(our_pod("h100-0"))
    before = copy.deepcopy(world.deployment()["spec"]["template"])
    world.nodes(node("h100-0"), node("l4-0", memory_mib=23034, product="NVIDIA-L4"))
    world.write_resource(resource(generation=2, version=70, networkPolicy={}, monitoring={"labels": {"a": "b"}}))
    await world.reconcile()
    assert world.deployment()["spec"]["template"] == before


async def test_the_autoscalers_replicas_are_left_to_it(world: World) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 4, "metric": {"averageValue": "5"}}
    world.write_resource(resource(generation=2, version=2, scaling=scaling))
    await world.reconcile()
    assert "HorizontalPodAutoscaler" in kinds(world)
    world.deployment()["spec"]["replicas"] = 3
    world.deployment()["metadata"]["resourceVersion"] = world.kube._next()
    world.watch()
    world.kube.writes.clear()
    await world.reconcile()
    assert [write for write in world.kube.writes if write[0] == "apply"] == []
    assert world.deployment()["spec"]["replicas"] == 3


async def test_what_cannot_be_rendered_is_a_condition_that_names_the_field(world: World) -> None:
    # The API knows GPUs by the common names of their resources; of this one it learns from the plan only.
    device = node("intel-0")
    device["status"]["allocatable"]["gpu.intel.com/i915"] = device["status"]["allocatable"].pop("nvidia.com/gpu")
    world.nodes(device)
    two = {"spec": {"containers": [{"name": "engine", "resources": {"limits": {"gpu.intel.com/i915": "2"}}}]}}
    world.write_resource(
        resource(
            generation=2,
            version=2,
            gpu={"resourceName": "gpu.intel.com/i915"},
            policy={"admission": "Off"},
            podTemplate=two,
        )
    )
    await world.reconcile()
    assert world.condition("Rendered") == ("False", "ApplyFailed")
    message = next(one for one in world.status()["conditions"] if one["type"] == "Rendered")["message"]
    assert "spec.podTemplate.spec.containers[engine].resources.limits.gpu.intel.com/i915" in message
    assert "is planned" in message
    assert world.condition("Ready") == ("False", "ApplyFailed")
    assert [write for write in world.kube.writes if write[0] == "apply"] == []


async def test_an_optional_object_that_is_refused_holds_nothing_up_and_is_tried_again(world: World) -> None:
    def refuse(verb: str, kind: str, name: str) -> None:
        if kind == "PodMonitor":
            raise ApiError(404, "NotFound", "the server could not find the requested resource")

    world.kube.refuse = refuse
    world.served |= {"PodMonitor"}
    await world.reconcile()
    assert kinds(world) == {"Deployment", "Service"}
    assert world.condition("Rendered") == ("True", "AppliedInPart")
    assert KEY in world.queue._timers
    world.roll_out()
    await world.reconcile()
    assert world.condition("Ready") == ("True", "ModelServed")
    world.kube.refuse = lambda verb, kind, name: None
    await world.reconcile()
    assert "PodMonitor" in kinds(world)
    assert world.condition("Rendered") == ("True", "Applied")


async def test_an_autoscaler_of_somebody_else_is_never_taken_over(world: World) -> None:
    foreign = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "model", "namespace": "team"}, "spec": {"a": 1}}
    world.kube.put(AUTOSCALERS, foreign)
    scaling = {"maxReplicas": 4, "metric": {"averageValue": "5"}}
    world.write_resource(resource(generation=2, version=2, scaling=scaling))
    await world.reconcile()
    assert world.kube.objects[("horizontalpodautoscalers", "team", "model")]["spec"] == {"a": 1}
    assert world.condition("Rendered") == ("True", "AppliedInPart")
    message = next(one for one in world.status()["conditions"] if one["type"] == "Rendered")["message"]
    assert "HorizontalPodAutoscaler 'model' that is not this VLLMDeployment's exists already" in message
