"""Metrics, probes and log lines."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vllm_operator.runtime.admission import Answer

LAG_PROBE_SECONDS: Final = 0.25
UNHEALTHY_LAG_SECONDS: Final = 20.0
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What the operator measures of itself; labels are few and never hold a user's text."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconcile_seconds = Histogram(
            "vllm_operator_reconcile_seconds",
            "Time of one reconcile, by result.",
            ["result"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.admission_seconds = Histogram(
            "vllm_operator_admission_seconds",
            "Time of one admission review inside the operator, by answer.",
            ["answer"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.requests = Counter(
            "vllm_operator_api_requests",
            "Requests to the API server, by verb, resource and HTTP code (0: no answer).",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.loop_lag_seconds = Histogram(
            "vllm_operator_loop_lag_seconds",
            "How late the event loop ran a timer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.leading = Gauge("vllm_operator_leading", "1 while this replica reconciles.", registry=self.registry)
        self._last_turn = time.monotonic()

    def observe(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when it is scraped."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def observe_kept(self, stores: Mapping[str, Callable[[], int]]) -> None:
        """Add gauges of how much each store keeps, by its name."""
        kept = Gauge(
            "vllm_operator_kept_entries",
            "What is kept in memory, by store; it follows the cluster and does not grow by itself.",
            ["store"],
            registry=self.registry,
        )
        for name, entries in stores.items():
            kept.labels(name).set_function(entries)

    def requested(self, verb: str, resource: str, code: int) -> None:
        """Count a request to the API server."""
        self.requests.labels(verb, resource, str(code)).inc()

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        """Time a reconcile; an exception makes it an error."""
        started = time.perf_counter()
        result = "error"
        try:
            yield
            result = "success"
        finally:
            self.reconcile_seconds.labels(result).observe(time.perf_counter() - started)

    @contextmanager
    def reviewing(self) -> Iterator[Callable[[Answer], None]]:
        """Time an admission review; the callable takes its answer."""
        started = time.perf_counter()
        said = ["error"]

        def outcome(answer: Answer) -> None:
            said[0] = "refused" if answer.refusal is not None else "warned" if answer.warnings else "admitted"

        try:
            yield outcome
        finally:
            self.admission_seconds.labels(said[0]).observe(time.perf_counter() - started)

    async def measure_lag(self) -> None:
        """Measure the event loop until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_PROBE_SECONDS
            await asyncio.sleep(LAG_PROBE_SECONDS)
            self.loop_lag_seconds.observe(max(0.0, loop.time() - due))
            self._last_turn = time.monotonic()

    def healthy(self) -> bool:
        """Whether the event loop still turns."""
        return time.monotonic() - self._last_turn < UNHEALTHY_LAG_SECONDS


def http_application(metrics: Metrics, *, ready: Callable[[], str | None]) -> web.Application:
    """Return `/healthz`, `/readyz` and `/metrics`; `ready` returns what is still missing."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok") if metrics.healthy() else web.Response(status=503, text="the event loop hangs")

    async def readyz(_: web.Request) -> web.Response:
        missing = ready()
        return web.Response(text="ok") if missing is None else web.Response(status=503, text=missing)

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    return application
