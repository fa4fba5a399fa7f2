"""From a pod's report to the status, and what must not follow from it: no rollout, no second write, no second Event."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest
from tests.unit.runtime.test_observe import pod
from tests.unit.runtime.test_reconciler import KEY, World, node, resource

from vllm_operator.models.engine_report import EngineReport
from vllm_operator.planning.defaults import OperatorDefaults
from vllm_operator.render.labels import PLAN_HASH_ANNOTATION
from vllm_operator.runtime.admission import Gatekeeper
from vllm_operator.runtime.kube import CONFIG_MAPS
from vllm_operator.runtime.observability import Metrics
from vllm_operator.runtime.observe_scrape import ScrapeError
from vllm_operator.runtime.observed import ObservedCollector
from vllm_operator.runtime.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Mapping


class Served(World):
    """A world whose pods' servers answer with `report`."""

    report: EngineReport | ScrapeError

    async def read(self, address: str, port: int) -> tuple[EngineReport, ...]:
        if isinstance(self.report, ScrapeError):
            raise self.report
        return (self.report,)

    async def observe(self, report: EngineReport | ScrapeError, *, restarts: int = 0) -> None:
        """Have a pod of the Deployment become Ready, its server answer that, and reconcile what follows."""
        self.report = report
        template = self.deployment()["spec"]["template"]["metadata"]["annotations"]
        annotations = {PLAN_HASH_ANNOTATION: template[PLAN_HASH_ANNOTATION]}
        working = asyncio.Event()
        working.set()
        looking = asyncio.create_task(self.observer.run(working, self.read))
        self.observer.upsert(pod(annotations=annotations, restarts=restarts))
        async with asyncio.timeout(5):
            self.queue.add(await self.queue.get())
            self.queue.done(KEY)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await self.reconcile()

    async def restarted(self) -> Served:
        """Return another operator that finds the cluster, and the statuses, as this one has left them."""
        other = Served()
        other.kube.objects = copy.deepcopy(self.kube.objects)
        other.kube.statuses = copy.deepcopy(self.kube.statuses)
        other.kube._version = self.kube._version + 1000
        other.nodes(node("h100-0"))
        other.write_resource(resource(version=other.kube._version))
        other.watch()
        return other

    @property
    def predicted_tokens(self) -> int:
        return int(self.status()["memory"]["kvCacheTokens"])

    def told(self) -> list[tuple[str, str]]:
        """Reason and note of the Events that wait to be written."""
        waiting = self.recorder._waiting
        return [(event["reason"], event["note"]) for _, event in list(waiting._queue)]  # type: ignore[attr-defined]

    def kinds_told(self) -> list[str]:
        """Types of the Events that wait to be written."""
        waiting = self.recorder._waiting
        return [event["type"] for _, event in list(waiting._queue)]  # type: ignore[attr-defined]

    @property
    def shown(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.status()["observed"]
        return found


def report(tokens: int, concurrency: float = 40.0) -> EngineReport:
    return EngineReport(
        num_gpu_blocks=tokens // 16,
        block_size=16,
        kv_cache_tokens=tokens,
        max_concurrency=concurrency,
        gpu_memory_utilization=0.9,
    )


@pytest.fixture
async def world() -> Served:
    made = Served()
    made.nodes(node("h100-0"))
    made.write_resource(resource())
    await made.reconcile()
    made.watch()
    made.roll_out()
    await made.reconcile()
    return made


async def test_what_a_pod_reports_is_in_the_status_beside_what_was_predicted(world: Served) -> None:
    predicted = world.predicted_tokens
    await world.observe(report(predicted - predicted // 50))
    assert world.shown["kvCacheTokens"] == predicted - predicted // 50
    assert world.shown["predictedKvCacheTokens"] == predicted
    assert world.shown["estimateErrorPercent"] == pytest.approx(2.04, abs=0.01)
    assert world.shown["maxConcurrency"] == 40
    assert world.shown["replicas"] == 1
    assert world.status()["memory"]["basis"] == "Observed"
    assert world.status()["memory"]["kvCacheTokens"] == predicted - predicted // 50


async def test_it_is_one_write_and_changes_nothing_that_runs(world: Served) -> None:
    writes, deployment = len(world.kube.writes), copy.deepcopy(world.deployment())
    await world.observe(report(world.predicted_tokens // 2, 1.5))
    assert world.kube.writes[writes:] == [("status", "VLLMDeployment", "model")]
    assert world.deployment() == deployment
    assert world.condition("Ready") == ("True", "ModelServed")
    assert world.condition("Degraded") == ("False", "AsExpected")
    assert world.status()["verdict"] == "Fits"
    for _ in range(3):
        await world.reconcile()
    assert len(world.kube.writes) == writes + 1


async def test_an_error_beyond_five_per_cent_and_a_shortage_are_one_event_and_a_warning_each(world: Served) -> None:
    before = set(world.status()["warnings"])
    await world.observe(report(world.predicted_tokens // 2, 1.5))
    assert [reason for reason, _ in world.told()][-2:] == ["EstimateOff", "CapacityBelowWorkload"]
    assert set(world.status()["warnings"]) - before == {note for _, note in world.told()[-2:]}
    told = len(world.told())
    await world.observe(report(world.shown["kvCacheTokens"], 1.5), restarts=1)
    assert len(world.told()) == told


async def test_a_good_prediction_is_no_event(world: Served) -> None:
    told = world.told()
    await world.observe(report(world.predicted_tokens))
    assert world.told() == told
    assert world.shown["estimateErrorPercent"] == 0


async def test_a_restarted_operator_reads_again_writes_nothing_and_says_nothing(world: Served) -> None:
    await world.observe(report(world.predicted_tokens // 2, 1.5))
    other = await world.restarted()
    other.book.observations = world.book.observations  # as the ConfigMap brings them
    await other.reconcile()
    assert other.shown == world.shown, "known from the status before any pod was read"
    await other.observe(report(world.shown["kvCacheTokens"], 1.5))
    assert other.kube.writes == []
    assert other.told() == []


async def test_a_pods_second_start_is_compared_with_the_prediction_and_not_with_the_first_start(world: Served) -> None:
    predicted = world.predicted_tokens
    await world.observe(report(predicted // 2))
    await world.observe(report(predicted // 2 - 160), restarts=1)
    assert world.shown["predictedKvCacheTokens"] == predicted
    assert world.shown["kvCacheTokens"] == predicted // 2 - 160


async def test_nonsense_is_said_and_believed_in_nothing(world: Served) -> None:
    await world.observe(ScrapeError("Absurd", "num_gpu_blocks is '0'", answered=True))
    assert world.shown["problem"] == "pod model-7d4b9-x: Absurd: num_gpu_blocks is '0'"
    assert "kvCacheTokens" not in world.shown
    assert world.told()[-1][0] == "ObservationIgnored"
    assert world.status()["memory"]["basis"] != "Observed"
    assert len(world.book.observations) == 0
    assert world.condition("Ready") == ("True", "ModelServed")


async def test_a_pod_that_cannot_be_read_is_no_warning_and_said_once(world: Served) -> None:
    warnings = world.status()["warnings"]
    await world.observe(ScrapeError("HttpError", "/metrics answers with HTTP 404", answered=False))
    assert world.shown["problem"] == "pod model-7d4b9-x: HttpError: /metrics answers with HTTP 404"
    assert world.shown["problemReason"] == "ObservationMissing"
    assert world.status()["warnings"] == warnings
    assert world.told()[-1][0] == "ObservationMissing"
    assert world.kinds_told()[-1] == "Normal"
    assert world.condition("Ready") == ("True", "ModelServed")

    other = await world.restarted()
    await other.observe(ScrapeError("HttpError", "/metrics answers with HTTP 404", answered=False))
    assert other.kube.writes == []
    assert other.told() == []


async def test_what_is_known_stays_where_a_pod_cannot_be_read_any_more(world: Served) -> None:
    await world.observe(report(world.predicted_tokens))
    known = dict(world.shown)
    await world.observe(ScrapeError("Timeout", "no answer", answered=False), restarts=1)
    assert {**known, "problem": world.shown["problem"], "problemReason": "ObservationMissing"} == world.shown


async def test_another_deployment_of_the_same_start_is_planned_with_what_was_seen(world: Served) -> None:
    await world.observe(report(world.predicted_tokens // 2))
    other = Served()
    other.book.observations = world.book.observations
    other.nodes(node("h100-1"))
    other.write_resource(resource())
    await other.reconcile()
    assert other.status()["memory"]["basis"] == "Observed"
    assert other.status()["memory"]["kvCacheTokens"] == world.shown["kvCacheTokens"]
    assert other.status()["plan"]["hash"] == world.status()["plan"]["hash"]


async def test_metrics_follow_the_resource_and_go_with_it(world: Served) -> None:
    metrics = Metrics()
    ObservedCollector(world.observed, world.observer, world.book, metrics.registry)
    await world.observe(report(world.predicted_tokens // 2))
    text = generate_latest(metrics.registry).decode()
    labels = '{name="model",namespace="team"}'
    assert f"vllm_operator_kv_cache_observed_tokens{labels}" in text
    assert f"vllm_operator_kv_cache_predicted_tokens{labels}" in text
    assert f"vllm_operator_kv_cache_estimate_error_percent{labels}" in text
    assert 'vllm_operator_pod_reads{result="Read"} 1.0' in text
    assert "vllm_operator_observations 1.0" in text

    world.resources.remove(resource())
    await world.reconcile()
    assert labels not in generate_latest(metrics.registry).decode()


async def test_what_was_learned_outlives_the_operator(world: Served) -> None:
    metadata = {"name": "observations", "namespace": "operators"}
    world.kube.put(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    await world.observe(report(world.predicted_tokens // 2))
    assert await world.book._write()
    other = await world.restarted()
    assert await other.book._load()
    assert list(other.book.observations) == list(world.book.observations)


async def test_admission_warns_of_what_was_seen_and_refuses_nothing_for_it(world: Served) -> None:
    await world.observe(report(world.predicted_tokens // 40))
    gatekeeper = Gatekeeper(
        snapshot=world.cluster.snapshot,
        facts=world.facts,
        planner=Planner(OperatorDefaults()),
        calibrate=world.observed.calibrate,
        quota_warnings=world.quotas.warnings,
        synced=lambda: True,
    )
    new = {**resource(), "metadata": {"name": "another", "namespace": "team"}}
    answer = gatekeeper.review(new, None, dry_run=True)
    assert answer.refusal is None
    assert any("was observed to leave" in warning for warning in answer.warnings)
