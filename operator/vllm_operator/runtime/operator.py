"""The operator: its stores, queues, watches and workers, wired together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vllm_operator.cluster.state import ClusterState
from vllm_operator.models.source import FactsSource
from vllm_operator.planning.decide import OperatorDefaults
from vllm_operator.render.labels import MANAGED_BY_LABEL, MANAGER
from vllm_operator.runtime import kube as k
from vllm_operator.runtime.admission import Admissions, Answer
from vllm_operator.runtime.children import Children
from vllm_operator.runtime.events import EventRecorder
from vllm_operator.runtime.facts import FactsBook
from vllm_operator.runtime.fleet import Fleet
from vllm_operator.runtime.handlers import jitter, log_failure
from vllm_operator.runtime.hub import hub_of
from vllm_operator.runtime.observability import HealthServer, Metrics
from vllm_operator.runtime.queue import KeyQueue
from vllm_operator.runtime.reconciler import Reconciler
from vllm_operator.runtime.resources import Resources
from vllm_operator.runtime.sinks import ChildSink, NodeSink, PodSink, ResourceSink
from vllm_operator.runtime.watch import Lister, Watcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from vllm_operator.settings import Settings

_LOGGER = logging.getLogger(__name__)

SERVICE_WORKERS = 4
"""Kubernetes makes about 50 ClusterIP Services a second whatever one does."""


class Operator:
    """Everything that runs between `start` and `stop`, on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.resources = Resources()
        self.children = Children()
        self.cluster = ClusterState()
        self.queue: KeyQueue[str] = KeyQueue(jitter=jitter)
        self.services: KeyQueue[str] = KeyQueue(jitter=jitter)
        self.resource_sink = ResourceSink(self.resources, self.queue.add)
        self.kube = k.AiohttpKube()
        defaults = OperatorDefaults(image=settings.engine_image)
        self.facts = FactsBook(self.kube, FactsSource(hub_of(settings)), changed=self.queue.add)
        self.events = EventRecorder(self.kube, reporter=settings.pod_name)
        self.reconciler = Reconciler(
            kube=self.kube,
            resources=self.resources,
            children=self.children,
            cluster=self.cluster,
            facts=self.facts,
            events=self.events,
            defer=self.services.add,
            now=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            defaults=defaults,
        )
        self.fleet = Fleet(self.cluster, self.reconciler.judgements, requeue=self.queue.add)
        self.admissions = Admissions(cluster=self.cluster, facts=self.facts, synced=self.is_synced, defaults=defaults)
        self.health = HealthServer(
            self.metrics,
            ready=self.is_synced,
            refresh=self._refresh_metrics,
            host=settings.http_host,
            port=settings.http_port,
        )
        self._watchers = self._make_watchers()
        self._tasks: list[asyncio.Task[None]] = []

    def is_synced(self) -> bool:
        """Whether everything has been listed at least once: before that there is only a guess."""
        return all(watcher.synced.is_set() for watcher in self._watchers)

    async def start(self) -> None:
        """Start serving, watching and, once everything is listed, reconciling."""
        await self.kube.__aenter__()
        await self.health.start()
        self._spawn("lag", self.health.watch_lag())
        self._spawn("events", self.events.run())
        for watcher in self._watchers:
            self._spawn(f"watch {watcher.resource.plural} {watcher.namespace or ''}", watcher.run())
        self._spawn("workers", self._work_when_synced())

    async def stop(self) -> None:
        """Stop taking work, let nothing half done, close."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.queue.close()
        self.services.close()
        await self.facts.close()
        await self.health.stop()
        await self.kube.__aexit__()

    def admit(self, obj: dict[str, Any], old: Mapping[str, Any] | None) -> Answer:
        """Answer one admission request from memory."""
        started = time.perf_counter()
        metadata = obj.get("metadata") or {}
        answer = self.admissions.answer(
            obj, old=old, namespace=str(metadata.get("namespace") or "default"), name=str(metadata.get("name") or "")
        )
        self.metrics.admission_seconds.observe(time.perf_counter() - started)
        kind = "refused" if answer.refusal else "warned" if answer.warnings else "admitted"
        self.metrics.admissions.labels(kind).inc()
        return answer

    async def _work_when_synced(self) -> None:
        await asyncio.gather(*(watcher.synced.wait() for watcher in self._watchers))
        _LOGGER.info(
            "synced", extra={"resources": len(self.resources), "gpu_offers": len(self.cluster.snapshot().offers)}
        )
        self._spawn("fleet", self.fleet.run())
        for number in range(self.settings.workers):
            self._spawn(f"worker {number}", self._work(self.queue, self._reconcile))
        for number in range(SERVICE_WORKERS):
            self._spawn(f"service worker {number}", self._work(self.services, self._apply_service))

    async def _work(self, queue: KeyQueue[str], step: Callable[[str], Awaitable[float | None]]) -> None:
        while True:
            key = await queue.get()
            started = time.perf_counter()
            try:
                again = await step(key)
            except (k.ApiError, k.Unreachable) as error:
                delay = queue.retry(key)
                self.metrics.reconciles.labels("retry").inc()
                _LOGGER.warning("will try again", extra={"key": key, "seconds": round(delay, 1), "reason": str(error)})
            except Exception:
                # A fault of ours: it must not end the worker, and must not spin.
                delay = queue.retry(key)
                self.metrics.reconciles.labels("fault").inc()
                _LOGGER.exception("reconcile failed", extra={"key": key, "seconds": round(delay, 1)})
            else:
                queue.forget(key)
                self.metrics.reconciles.labels("done").inc()
                if again is not None:
                    queue.add_after(key, again)
            finally:
                self.metrics.reconcile_seconds.observe(time.perf_counter() - started)
                queue.done(key)

    async def _reconcile(self, key: str) -> float | None:
        return await self.reconciler.reconcile(key)

    async def _apply_service(self, key: str) -> float | None:
        await self.reconciler.apply_service(key)
        return None

    def _make_watchers(self) -> list[Watcher]:
        def watcher(
            resource: k.Resource, sink: Any, namespace: str | None, labels: str = "", *, kind: type[Watcher] = Watcher
        ) -> Watcher:
            return kind(
                kube=self.kube,
                resource=resource,
                sink=sink,
                namespace=namespace,
                labels=labels,
                resync_seconds=self.settings.resync_seconds,
                jitter=jitter,
            )

        changed = lambda: self.fleet.inventory_changed()  # noqa: E731 -- the fleet is made after the sinks
        watchers = [
            watcher(k.NODES, NodeSink(self.cluster, changed), None),
            watcher(k.PODS, PodSink(self.cluster, changed), None),
        ]
        ours = f"{MANAGED_BY_LABEL}={MANAGER}"
        for namespace in self.settings.watch_namespaces or (None,):
            watchers.append(watcher(k.VLLM_DEPLOYMENTS, self.resource_sink, namespace, kind=Lister))
            watchers += [
                watcher(resource, ChildSink(resource.kind, self.children, self.queue.add), namespace, ours)
                for resource in k.CHILDREN
            ]
        return watchers

    def _refresh_metrics(self) -> None:
        self.metrics.queue_depth.set(len(self.queue))
        verdicts = Counter(judgement.plan.verdict.value for judgement in self.reconciler.judgements.values())
        for verdict, number in verdicts.items():
            self.metrics.resources.labels(verdict).set(number)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(log_failure)
        self._tasks.append(task)
