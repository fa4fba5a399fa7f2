"""The operator as a process: from its settings to its exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from typing import TYPE_CHECKING, Final

import kopf

from vllm_operator.models.source import FactsSource, HubSource
from vllm_operator.runtime.app import Operator
from vllm_operator.runtime.collector import collect_rarely
from vllm_operator.runtime.connection import agent_of
from vllm_operator.runtime.hub import hub_of
from vllm_operator.runtime.kube import AiohttpKube, ApiError, Unreachable
from vllm_operator.runtime.logs import configure_logging
from vllm_operator.runtime.observability import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.settings import Settings

_LOGGER = logging.getLogger(__name__)

EXIT_FAILED: Final = 1


def run(settings: Settings) -> int:
    """Run the operator until it is asked to stop; the exit code."""
    configure_logging(settings.log_level)
    collect_rarely()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(_run(settings))
        except asyncio.CancelledError:
            _LOGGER.info("the operator was stopped while it started", extra={"reason": settings.pod_name})
        except (kopf.LoginError, OSError, ssl.SSLError, ApiError, Unreachable) as error:
            _LOGGER.error("the operator ends", extra={"reason": str(error)})
            return EXIT_FAILED
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not made for every platform
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _run(settings: Settings) -> None:
    task = asyncio.current_task()
    assert task is not None, "it runs in a task of the loop"
    # Until Kopf takes the signal over.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    metrics = Metrics()
    async with AiohttpKube(metrics.requested, agent=agent_of(settings.pod_name)) as kube:
        hub = hub_of(settings)
        try:
            await Operator(settings, kube, FactsSource(hub), metrics).run()
        finally:
            if isinstance(hub, HubSource):
                hub.close()
