"""Kopf's handlers: they project and pass on, and decide nothing."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any

import kopf

from vllm_operator.api.v1alpha1 import GROUP, PLURAL, VERSION

if TYPE_CHECKING:
    import asyncio

    from vllm_operator.runtime.operator import Operator
    from vllm_operator.settings import Settings

WEBHOOK_ID = "feasibility"
"""The last part of the webhook's path, as the chart's ValidatingWebhookConfiguration has it."""


class NothingKept(kopf.DiffBaseStorage, kopf.ProgressStorage):
    """Kopf remembers nothing on users' objects: our handlers are level-triggered and need no memory there."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        """Return an empty essence: computing one costs a deep copy of every object."""
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body, **_: Any) -> None:
        """Return nothing."""

    def store(self, *, body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        """Store nothing."""

    def purge(self, *, body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        """Remove nothing."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Touch nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Return the essence as it is."""
        return essence


def register(operator: Operator, settings: Settings) -> kopf.OperatorRegistry:
    """Return a registry with the handlers of one operator, with Kopf's own login."""
    registry = kopf.get_default_registry()

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings, operator)
        await operator.start()

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        await operator.stop()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def observe(event: kopf.RawEvent, **_: Any) -> None:
        obj: dict[str, Any] = dict(event["object"])
        if event["type"] == "DELETED":
            operator.resource_sink.remove(obj)
        else:
            operator.resource_sink.upsert(obj)

    if settings.webhook_cert_dir is not None:

        @kopf.on.validate(GROUP, VERSION, PLURAL, id=WEBHOOK_ID, registry=registry)
        async def validate(*, body: kopf.Body, warnings: list[str], **review: Any) -> None:
            answer = operator.admit(dict(body), review["old"] if review["operation"] == "UPDATE" else None)
            warnings.extend(answer.warnings)
            if answer.refusal is not None:
                raise kopf.AdmissionError(answer.refusal, code=422)

    return registry


def configure(settings: kopf.OperatorSettings, operator: Operator) -> None:
    """Set Kopf up as a host of watches and webhooks only; the reasons are in docs/decisions/0001."""
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 30
    settings.watching.reconnect_backoff = 1.0
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 0.05
    settings.execution.max_workers = 4
    nothing = NothingKept()
    settings.persistence.diffbase_storage = nothing
    settings.persistence.progress_storage = nothing
    directory = operator.settings.webhook_cert_dir
    if directory is not None:
        settings.admission.server = kopf.WebhookServer(
            addr=operator.settings.webhook_host,
            port=operator.settings.webhook_port,
            certfile=directory / "tls.crt",
            pkeyfile=directory / "tls.key",
        )


def jitter() -> float:
    """Return a factor around 1, so that what happens periodically does not happen at once."""
    return random.uniform(0.8, 1.2)


def log_failure(task: asyncio.Task[None]) -> None:
    """Say why a background task ended, if it was not told to."""
    if not task.cancelled() and task.exception() is not None:
        logging.getLogger(__name__).critical("task ended", exc_info=task.exception(), extra={"task": task.get_name()})
