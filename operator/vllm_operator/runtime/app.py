"""The operator put together: stores, watches, workers, Kopf, probes; started, and ended, in one place."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import kopf
from aiohttp import web

from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.state import ClusterState
from vllm_operator.planning.defaults import OperatorDefaults
from vllm_operator.runtime import handlers
from vllm_operator.runtime.admission import Gatekeeper
from vllm_operator.runtime.child_watch import child_watchers
from vllm_operator.runtime.children import Children
from vllm_operator.runtime.clock import jitter, utc_now, utc_now_micro
from vllm_operator.runtime.collector import keep_for_good
from vllm_operator.runtime.declared import optional_watchers
from vllm_operator.runtime.events import Recorder
from vllm_operator.runtime.facts import FactsBook
from vllm_operator.runtime.feeds import NodeFeed, PodFeed, ResourceFeed, listed_pod
from vllm_operator.runtime.fence import Fenced
from vllm_operator.runtime.fleet import Fleet
from vllm_operator.runtime.kube import NODES, PODS, VLLM_DEPLOYMENTS
from vllm_operator.runtime.lanes import Lane
from vllm_operator.runtime.leader import Election, Sole
from vllm_operator.runtime.observability import Metrics, http_application
from vllm_operator.runtime.observe import Observer
from vllm_operator.runtime.observe_book import ObservationBook
from vllm_operator.runtime.observe_scrape import Scraper
from vllm_operator.runtime.observed import Observed, ObservedCollector
from vllm_operator.runtime.optional import OptionalKinds
from vllm_operator.runtime.planner import Planner
from vllm_operator.runtime.pods import Pods
from vllm_operator.runtime.queue import KeyQueue
from vllm_operator.runtime.quotas import Quotas, quota_watchers
from vllm_operator.runtime.reconciler import Reconciler
from vllm_operator.runtime.resources import Resources
from vllm_operator.runtime.resync import Resync
from vllm_operator.runtime.shared import Shared
from vllm_operator.runtime.standings import StandingsCollector
from vllm_operator.runtime.turns import Turns
from vllm_operator.runtime.watch import Watcher
from vllm_operator.runtime.webhook import SHUTDOWN_SECONDS
from vllm_operator.runtime.webhook_tls import CertificateKeeper, ServedCertificate
from vllm_operator.runtime.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from vllm_operator.models.source import FactsSource
    from vllm_operator.runtime.kube import Kube
    from vllm_operator.settings import Settings

_LOGGER = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 10.0
"""Time that writes under way get when the operator is asked to stop."""


class Operator:
    """One replica."""

    def __init__(self, settings: Settings, kube: Kube, source: FactsSource, metrics: Metrics) -> None:
        self._settings = settings
        self._kube = kube
        self._metrics = metrics
        self._queue: KeyQueue[str] = KeyQueue(jitter=jitter)
        self._late_queue: KeyQueue[str] = KeyQueue(jitter=jitter)
        self._resources = Resources()
        self._children = Children()
        self._pods = Pods()
        self._cluster = ClusterState()
        self._quotas = Quotas(self._cluster)
        self._fleet = Fleet(self._cluster.snapshot, self._queue.add)
        self._facts = FactsBook(kube, source, changed=self._queue.add, reads_tokens=settings.hub_enabled)
        self._election = (
            Election(kube, settings.namespace, settings.lease_name, settings.pod_name, utc_now_micro)
            if settings.lease_name
            else Sole()
        )
        self._written = Fenced(kube, self._election.seconds_left)
        self._recorder = Recorder(self._written, instance=settings.pod_name, now=utc_now_micro)
        self._observer = Observer(self._queue.add, jitter=jitter)
        self._book = ObservationBook(
            self._written,
            namespace=settings.namespace,
            name=settings.observations_config_map if settings.observe_pods else None,
            reread_seconds=settings.resync_seconds,
            jitter=jitter,
        )
        self._observed = Observed(self._observer, self._book, utc_now)
        namespaces: tuple[str | None, ...] = settings.watch_namespaces or (None,)
        self._optional = OptionalKinds(
            kube,
            self._children,
            namespaces,
            queue=self._queue.add,
            changed=self._look_at_all,
            resync_seconds=settings.resync_seconds,
            jitter=jitter,
        )
        self._planner = Planner(OperatorDefaults(image=settings.engine_image), self._optional.capabilities)
        self._reconciler = Reconciler(self._shared())
        self._watchers = tuple(self._watches(namespaces))
        self._resyncs = tuple(
            Resync(kube, ResourceFeed(self._resources, namespace, self._queue.add), settings.resync_seconds, jitter)
            for namespace in namespaces
        )
        for watcher in self._watchers:
            # What broke this watch has hardly spared Kopf's.
            watcher.recovered = self._doubt
        self._certificate = ServedCertificate(settings.webhook_cert_dir) if settings.webhook_cert_dir else None
        self._keeper = self._certificate_keeper()
        self._kopf_ready = asyncio.Event()
        self._working = asyncio.Event()
        self._lanes = (
            Lane("reconcile", self._queue, self._reconciler.reconcile, self._working, metrics),
            Lane("write_late", self._late_queue, self._reconciler.write_late, self._working, metrics),
        )
        self._metrics.observe_kept(
            {
                "resources": self._resources.entries,
                "quotas": self._quotas.entries,
                "children": self._children.entries,
                "pods": self._pods.entries,
                "facts": self._facts.entries,
                "fleet": self._fleet.entries,
                "queue": self._queue.entries,
                "late_queue": self._late_queue.entries,
                "events": self._recorder.entries,
                "reconciler": self._reconciler.entries,
            }
        )
        self._metrics.observe("vllm_operator_queue_depth", "Resources that wait.", lambda: float(len(self._queue)))
        self._metrics.observe(
            "vllm_operator_late_queue_depth",
            "Resources whose Service waits.",
            lambda: float(len(self._late_queue)),
        )
        self._metrics.observe(
            "vllm_operator_webhook_certificate_expiry_timestamp_seconds",
            "When the certificate that the webhook serves ends; 0: none is served.",
            self._certificate_expiry,
        )
        self._metrics.observe("vllm_operator_resources", "VLLMDeployments.", lambda: float(len(self._resources)))
        StandingsCollector(self._resources.standings, self._metrics.registry)
        ObservedCollector(self._observed, self._observer, self._book, self._metrics.registry)

    async def run(self) -> None:
        """Run until SIGTERM, or until a part of it fails."""
        settings = self._settings
        self._site = await self._serve_http()
        work = (
            *((f"watch {watcher.resource.plural}", watcher.run()) for watcher in self._watchers),
            *(("resync", resync.run()) for resync in self._resyncs),
            ("fleet", self._fleet.run()),
            ("events", self._recorder.run()),
            ("observer", self._observe()),
            ("observations", self._book.run(self._election.leading)),
            ("loop lag", self._metrics.measure_lag()),
            ("start", self._start_working()),
            *((f"{lane.name} {number}", lane.work()) for lane in self._lanes for number in range(settings.workers)),
            ("election", self._election.run()),
            *((("certificate", self._certificate.run()),) if self._certificate is not None else ()),
            *((("certificate keeper", self._keeper.run()),) if self._keeper is not None else ()),
        )
        tasks = {asyncio.create_task(coroutine, name=name) for name, coroutine in work}
        # Kopf cancels at its end all tasks that began after it; ours begin before and are ended below.
        kopf_task = asyncio.create_task(self._host(), name="kopf")
        try:
            done, _ = await asyncio.wait({kopf_task, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._end(kopf_task, tasks)
        _LOGGER.info("the operator has stopped", extra={"reason": settings.pod_name})

    def _shared(self) -> Shared:
        return Shared(
            kube=self._written,
            resources=self._resources,
            children=self._children,
            pods=self._pods,
            cluster=self._cluster,
            facts=self._facts,
            fleet=self._fleet,
            observed=self._observed,
            quotas=self._quotas,
            queue=self._queue,
            late_queue=self._late_queue,
            doubted=self._doubt,
            served=lambda: self._optional.served,
            unread=lambda: self._optional.unread,
            writer=Writer(self._written, self._children),
            recorder=self._recorder,
            planner=self._planner,
            turns=Turns(),
            now=utc_now,
        )

    def _watches(self, namespaces: tuple[str | None, ...]) -> list[Watcher]:
        seconds = self._settings.resync_seconds
        observer = self._observer if self._settings.observe_pods else None
        pods = PodFeed(self._cluster, self._pods, self._fleet.changed, self._queue.add, observer)
        found: list[Watcher] = [
            Watcher(
                self._kube,
                NODES,
                NodeFeed(self._cluster, self._fleet.changed),
                keep=project_node,
                resync_seconds=seconds,
                jitter=jitter,
            ),
            Watcher(self._kube, PODS, pods, keep=listed_pod, resync_seconds=seconds, jitter=jitter),
        ]
        found += child_watchers(
            self._kube, self._children, namespaces, queue=self._queue.add, resync_seconds=seconds, jitter=jitter
        )
        found += self._optional.watchers
        found += quota_watchers(
            self._kube,
            self._quotas,
            namespaces,
            keys=lambda: self._resources,
            queue=self._queue.add,
            resync_seconds=seconds,
            jitter=jitter,
        )
        found += optional_watchers(
            self._kube,
            self._cluster,
            self._fleet.changed,
            owner_of_pod=self._pods.owner_of,
            resync_seconds=seconds,
            jitter=jitter,
        )
        return found

    async def _host(self) -> None:
        """Let Kopf watch, log in, and serve the webhook."""
        if self._keeper is not None:
            await self._keeper.ready.wait()
        elif self._certificate is not None:
            self._certificate.load()
        gatekeeper = Gatekeeper(
            snapshot=self._cluster.snapshot,
            facts=self._facts,
            planner=self._planner,
            calibrate=self._observed.calibrate,
            quota_warnings=self._quotas.warnings,
            synced=self._synced,
        )
        registry = handlers.registry(
            settings=self._settings,
            resources=self._resources,
            queue=self._queue.add,
            gatekeeper=gatekeeper,
            metrics=self._metrics,
            served=self._certificate,
            doubted=self._doubt,
            stopping=self._stop_working,
        )
        await kopf.operator(
            registry=registry,
            # Kopf would ask for the user's name, and the image's user is a number that no passwd file has.
            identity=self._settings.pod_name,  # type: ignore[arg-type]  # a str that Kopf names, but does not export
            standalone=True,
            ready_flag=self._kopf_ready,
            **handlers.scope(self._settings.watch_namespaces),
        )

    def _certificate_keeper(self) -> CertificateKeeper | None:
        settings = self._settings
        if self._certificate is None or settings.webhook_cert_secret is None or settings.webhook_configuration is None:
            return None
        return CertificateKeeper(
            self._kube,
            namespace=settings.namespace,
            secret=settings.webhook_cert_secret,
            configuration=settings.webhook_configuration,
            hosts=settings.webhook_names,
            valid=timedelta(days=settings.webhook_cert_days),
            served=self._certificate,
            now=lambda: datetime.now(UTC),
            jitter=jitter,
        )

    def _certificate_expiry(self) -> float:
        expires_at = self._certificate.expires_at if self._certificate is not None else None
        return expires_at.timestamp() if expires_at is not None else 0.0

    def _synced(self) -> bool:
        return all(watcher.synced.is_set() for watcher in self._watchers) and all(
            resync.synced.is_set() for resync in self._resyncs
        )

    def _missing(self) -> str | None:
        """Return what keeps this replica from being ready; None when nothing does."""
        for watcher in self._watchers:
            if not watcher.synced.is_set():
                return f"{watcher.resource.plural} are not listed yet"
        if not self._synced():
            return f"{VLLM_DEPLOYMENTS.plural} are not listed yet"
        if self._keeper is not None and not self._keeper.ready.is_set():
            return f"the webhook's certificate is not in Secret {self._keeper.secret} yet"
        return None if self._kopf_ready.is_set() else "Kopf is starting"

    async def _start_working(self) -> None:
        """Let the workers work once everything is listed, whenever this replica leads."""
        for watcher in self._watchers:
            await watcher.synced.wait()
        for resync in self._resyncs:
            await resync.synced.wait()
        # What was learned before this start must not come and go in statuses.
        await self._book.loaded.wait()
        keep_for_good()
        while True:
            await self._election.leading.wait()
            self._metrics.leading.set(1)
            # What a watch brought meanwhile is queued already; the rest is looked at once.
            self._look_at_all()
            self._working.set()
            await self._election.following.wait()
            self._working.clear()
            self._metrics.leading.set(0)

    def _doubt(self) -> None:
        """Have the VLLMDeployments listed soon."""
        for resync in self._resyncs:
            resync.soon()

    async def _observe(self) -> None:
        async with Scraper() as scraper:
            await self._observer.run(self._working, scraper.read)

    def _look_at_all(self) -> None:
        for key in self._resources:
            self._queue.add(key)

    async def _serve_http(self) -> web.AppRunner:
        application = http_application(self._metrics, ready=self._missing)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        await web.TCPSite(runner, self._settings.http_host, self._settings.http_port).start()
        return runner

    async def _stop_working(self) -> None:
        """Hand out no more keys, load no more facts, serve nothing; what is being written is finished."""
        for lane in self._lanes:
            lane.queue.close()
        await self._facts.close()
        # Kopf waits five seconds for what began after it: a connection that somebody keeps open.
        await self._site.cleanup()

    async def _end(self, kopf_task: asyncio.Task[None], tasks: set[asyncio.Task[None]]) -> None:
        await self._stop_working()
        kopf_task.cancel()
        await _within(DRAIN_SECONDS, *(lane.queue.idle() for lane in self._lanes))
        for task in tasks:
            task.cancel()
        await asyncio.gather(kopf_task, *tasks, return_exceptions=True)
        await self._election.release()


async def _within(seconds: float, *coroutines: Coroutine[None, None, None]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*coroutines)
    except TimeoutError:
        _LOGGER.warning("writes under way were cut off")
