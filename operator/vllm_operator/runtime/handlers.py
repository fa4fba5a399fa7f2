"""What Kopf calls: each handler only takes an object into the store, or answers from memory."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any, Final

import kopf

from vllm_operator.api.v1alpha1 import GROUP, PLURAL, VERSION
from vllm_operator.runtime.connection import agent_of, open_session
from vllm_operator.runtime.webhook import WebhookServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping

    from vllm_operator.runtime.admission import Gatekeeper
    from vllm_operator.runtime.observability import Metrics
    from vllm_operator.runtime.resources import Resources
    from vllm_operator.runtime.webhook_tls import ServedCertificate
    from vllm_operator.settings import Settings

WEBHOOK_ID: Final = "feasibility"
"""Also the path of the webhook in the chart's configuration."""
REFUSED: Final = 422


class _Listings:
    """Tells Kopf's first listing from a later one, by events alone: those of a listing have no type."""

    def __init__(self) -> None:
        self._first: set[str] | None = set()
        """What the first listing has shown; None once it is over."""

    def again(self, type: str | None, uid: str) -> bool:
        """Whether this event is of a later listing."""
        if type is not None:
            self._first = None
        elif self._first is None or uid in self._first:
            return True
        else:
            self._first.add(uid)
        return False


class _Backoffs:
    """How long Kopf waits between attempts, for ever: it ends the operator when these run out."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 1.0, 2.0, 3.0, 5.0), itertools.repeat(8.0))


class _NoDiffBase(kopf.DiffBaseStorage):
    """Keeps nothing: events are levels here, nobody asks what changed."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Keeps nothing: no handler of ours is retried by Kopf."""

    def fetch(self, *, key: object, body: kopf.Body) -> None:
        return None

    def store(self, *, key: object, record: object, body: kopf.Body, patch: kopf.Patch) -> None:
        return None

    def purge(self, *, key: object, body: kopf.Body, patch: kopf.Patch) -> None:
        return None

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: object) -> None:
        return None

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def registry(
    *,
    settings: Settings,
    resources: Resources,
    queue: Callable[[str], None],
    gatekeeper: Gatekeeper,
    metrics: Metrics,
    served: ServedCertificate | None,
    doubted: Callable[[], None],
    stopping: Callable[[], Awaitable[None]],
) -> kopf.OperatorRegistry:
    """Return Kopf's registry with everything that it is to call.

    `doubted` is called when Kopf lists again: it does not say what is gone.
    """
    handlers = kopf.OperatorRegistry()
    listings = _Listings()

    def is_known(obj: Mapping[str, Any]) -> bool:
        # Also what is left out was a watch's event, after which a listing is a later one.
        listings.again("MODIFIED", obj["metadata"]["uid"])
        return resources.has(obj)

    @kopf.on.startup(registry=handlers)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure_kopf(settings)
        if webhook is not None:
            settings.admission.server = webhook

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.AiohttpSession:
        server, session = open_session(agent_of(settings.pod_name), is_known=is_known)
        return kopf.AiohttpSession(server=server, aiohttp_session=session)

    @kopf.on.cleanup(registry=handlers)
    async def stop(**_: Any) -> None:
        end_orphans_of_watches()
        await stopping()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers)
    async def observed(type: str | None, body: Mapping[str, Any], **_: Any) -> None:
        if listings.again(type, body["metadata"]["uid"]):
            doubted()
        # Kopf's view of the object resolves every field anew.
        obj = dict(body)
        key = resources.remove(obj) if type == "DELETED" else resources.upsert(obj)
        if key is not None:
            queue(key)

    # The certificate is put into the running server's context when it is renewed.
    webhook = None
    if served is not None:
        webhook = WebhookServer(settings.webhook_host, settings.webhook_port, served.context, path=f"/{WEBHOOK_ID}")

        @kopf.on.validate(GROUP, VERSION, PLURAL, id=WEBHOOK_ID, registry=handlers)
        async def feasibility(*, body: kopf.Body, dryrun: bool, warnings: list[str], **review: Any) -> None:
            old = review["old"] if review["operation"] == "UPDATE" else None
            with metrics.reviewing() as outcome:
                answer = gatekeeper.review(dict(body), dict(old) if old else None, dry_run=dryrun)
                outcome(answer)
            warnings.extend(answer.warnings)
            if answer.refusal is not None:
                raise kopf.AdmissionError(answer.refusal, code=REFUSED)

    return handlers


def configure_kopf(settings: kopf.OperatorSettings) -> None:
    """Make Kopf a host and nothing more: no annotations, no Events, no peering, no scanning."""
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = _Backoffs()
    # Kopf handles all objects of an answer in one go, during which nothing else is looked at.
    settings.watching.chunk_size = 50
    settings.watching.reconnect_backoff = 1.0
    settings.queueing.idle_timeout = 0.05
    settings.execution.max_workers = 4
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    # A line for every event of every object is not news.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)


def end_orphans_of_watches() -> None:
    """Cancel what Kopf's watches have left behind, for which it would wait five seconds before it ends.

    A watch that is cancelled while it hands an object on never closes its stream of events, whose task waits for a
    pause of the operator (kopf 1.45, kopf._cogs.clients.watching.streaming_block).
    """
    for task in asyncio.all_tasks():
        if task.get_name().startswith("pause-waiter for "):
            task.cancel()


def scope(namespaces: Collection[str]) -> dict[str, Any]:
    """Return Kopf's arguments for where to watch."""
    return {"namespaces": list(namespaces)} if namespaces else {"clusterwide": True}
