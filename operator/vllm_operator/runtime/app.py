"""Runs the operator under Kopf until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import kopf

from vllm_operator.runtime.handlers import register
from vllm_operator.runtime.logs import configure_logging
from vllm_operator.runtime.operator import Operator

if TYPE_CHECKING:
    from vllm_operator.settings import Settings

_LOGGER = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Run until SIGTERM or Ctrl-C; returns the exit code."""
    configure_logging(settings.log_level)
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        runner.run(_run(settings))
    return 0


async def _run(settings: Settings) -> None:
    operator = Operator(settings)
    _LOGGER.info("starting", extra={"namespaces": list(settings.watch_namespaces) or "all"})
    await kopf.operator(
        registry=register(operator, settings),
        standalone=True,
        clusterwide=not settings.watch_namespaces,
        namespaces=list(settings.watch_namespaces),
    )
