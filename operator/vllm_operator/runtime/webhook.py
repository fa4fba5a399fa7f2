"""The socket behind `kopf.on.validate`: takes reviews of any size and depth that Kubernetes can send, and answers each.

Kopf's own server refuses bodies of a megabyte, which two versions of one large resource exceed, and answers 500 to JSON
that is nested deeply or has another shape than it expects. Both would switch the check off where `failurePolicy` is
`Ignore`, and lock the resource where it is `Fail`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from vllm_operator.api.v1alpha1 import GROUP, PLURAL, VERSION
from vllm_operator.runtime.answers import NotJson, parse_json

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    import kopf

_LOGGER = logging.getLogger(__name__)

LARGEST_REVIEW_BYTES: Final = 8 * 2**20
"""The API server takes objects of up to 3 MiB (k8s.io/apiserver: MaxRequestBodyBytes); a review may hold two."""
SHUTDOWN_SECONDS: Final = 2.0
"""How long answers under way are waited for at the end; the Lease is given back only after them."""
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_RESOURCE: Final = {"group": GROUP, "version": VERSION, "resource": PLURAL}


class NoReview(ValueError):
    """The body is no AdmissionReview of a VLLMDeployment; the message says what is wrong with it."""


@dataclass(frozen=True)
class WebhookServer:
    """Serves the webhook, in the form in which Kopf takes a server; the certificate is the context's."""

    host: str
    port: int
    context: ssl.SSLContext | None
    path: str
    """Of the one webhook: a slash and its handler's id."""

    async def __call__(self, judge: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        """Serve until cancelled; yields once it does."""

        async def answer(request: web.Request) -> web.Response:
            return await self._answer(request, judge)

        application = web.Application(client_max_size=LARGEST_REVIEW_BYTES)
        application.add_routes([web.post(self.path, answer)])
        runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port, ssl_context=self.context).start()
            yield {"url": f"https://{self.host}:{self.port}{self.path}"}
            await asyncio.get_running_loop().create_future()
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request, judge: kopf.WebhookFn) -> web.Response:
        body = await request.read()
        try:
            review: Any = read_review(body)
        except NoReview as error:
            return web.Response(status=400, text=str(error))
        try:
            answer: Any = await judge(review, webhook=self.path.strip("/"), sslpeer={}, headers={})
        except Exception as error:  # Kopf's or ours: the reconciler judges again
            _LOGGER.exception("admission failed", extra={"reason": type(error).__name__})
            answer = _admitted_unseen(review)
        return web.json_response(answer)


def read_review(body: bytes) -> dict[str, Any]:
    """Return a review that has what Kopf takes for granted.

    Raises:
        NoReview: it has not.
    """
    try:
        review = parse_json(body)
    except NotJson as error:
        raise NoReview(str(error)) from None
    if _SURROGATE.search(body) and not _is_unicode(review):
        raise NoReview("a text is no Unicode: half of a surrogate pair")
    request = _mapping(review, "request")
    resource = _mapping(request, "resource")
    if {name: resource.get(name) for name in _RESOURCE} != _RESOURCE:
        raise NoReview(f"request.resource is not {PLURAL}.{VERSION}.{GROUP}")
    if not isinstance(request.get("uid"), str) or not isinstance(request.get("operation"), str):
        raise NoReview("request.uid and request.operation are needed")
    _mapping(request, "userInfo")
    present = [name for name in ("object", "oldObject") if request.get(name) is not None]
    if not present:
        raise NoReview("request has neither object nor oldObject")
    for name in present:
        metadata = _mapping(_mapping(request, name), "metadata")
        if any(not isinstance(metadata.get(key, ""), str) for key in ("name", "namespace", "uid")):
            raise NoReview(f"name, namespace and uid of {name} must be text")
    found: dict[str, Any] = review
    return found


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _mapping(value: object, name: str) -> dict[str, Any]:
    inner = value.get(name) if isinstance(value, dict) else None
    if not isinstance(inner, dict):
        raise NoReview(f"{name} is needed, and an object")
    return inner


def _admitted_unseen(review: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {
            "uid": review["request"]["uid"],
            "allowed": True,
            "warnings": ["the operator could not judge this resource; its conditions will say more"],
        },
    }
