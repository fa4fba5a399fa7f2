"""Metrics, liveness and readiness of the operator itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable

LAG_PERIOD_SECONDS: Final = 0.5


class Metrics:
    """The operator's metrics; labels are bounded sets, never names of users' objects."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "vllm_operator_reconciles", "Reconciles by result.", ["result"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "vllm_operator_reconcile_seconds", "Seconds of one reconcile.", registry=self.registry
        )
        self.admissions = Counter(
            "vllm_operator_admissions", "Admission requests by answer.", ["answer"], registry=self.registry
        )
        self.admission_seconds = Histogram(
            "vllm_operator_admission_seconds",
            "Seconds of one admission request.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5),
            registry=self.registry,
        )
        self.queue_depth = Gauge("vllm_operator_queue_depth", "Resources that wait.", registry=self.registry)
        self.resources = Gauge(
            "vllm_operator_resources", "VLLMDeployments by verdict.", ["verdict"], registry=self.registry
        )
        self.loop_lag_seconds = Gauge(
            "vllm_operator_event_loop_lag_seconds", "How late the event loop runs its timers.", registry=self.registry
        )


class HealthServer:
    """Serves `/healthz`, `/readyz` and `/metrics`."""

    def __init__(
        self, metrics: Metrics, *, ready: Callable[[], bool], refresh: Callable[[], None], host: str, port: int
    ) -> None:
        self._metrics = metrics
        self._ready = ready
        self._refresh = refresh
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Start serving."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def watch_lag(self) -> None:
        """Measure until cancelled how late the event loop is."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            await asyncio.sleep(LAG_PERIOD_SECONDS)
            self._metrics.loop_lag_seconds.set(max(0.0, loop.time() - started - LAG_PERIOD_SECONDS))

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._ready():
            return web.Response(text="ok")
        return web.Response(status=503, text="the cluster's nodes and resources are not known yet")

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        self._refresh()
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
