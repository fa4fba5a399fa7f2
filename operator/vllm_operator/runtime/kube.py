"""The API server, as far as the operator needs it: plain dicts over one aiohttp session.

`kubernetes` loads the configuration, with its token rotation and exec plugins; its client is not used
(docs/decisions/0009).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from vllm_operator.api.v1alpha1 import GROUP, PLURAL, VERSION
from vllm_operator.render.labels import MANAGER
from vllm_operator.runtime.answers import NotJson, lines_of, parse_json
from vllm_operator.runtime.connection import authorization, load_configuration, transport_security
from vllm_operator.runtime.guarded_body import GuardedBody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

Manifest = dict[str, Any]
Keep = Callable[[Manifest], Any]
"""What is to be kept of an object in a list; the rest is dropped page by page."""

REQUEST_TIMEOUT_SECONDS: Final = 30.0
CONNECT_TIMEOUT_SECONDS: Final = 5.0
WATCH_SILENCE_SECONDS: Final = 90.0
"""The API server sends a bookmark about every minute; a stream that is silent for longer is dead."""
LIST_CHUNK: Final = 200
"""Objects of an answer to a list: what the event loop decodes in one go."""
TOKEN_CHECK_SECONDS: Final = 1.0
"""How often the client library is asked for the token: its answer costs as much as encoding a request."""
LONGEST_RETRY_AFTER_SECONDS: Final = 60.0
"""Nobody is left alone for longer, whatever a header says."""

_APPLY: Final = {force: urlencode({"fieldManager": MANAGER, "force": str(force).lower()}) for force in (True, False)}
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"


def as_it_is(obj: Manifest) -> Manifest:
    """Keep everything."""
    return obj


class ApiError(Exception):
    """The API server refused a request; `status` is the HTTP code, `reason` its one-word reason.

    `causes` are the reasons of its details; `retry_after_seconds` is for how long it asks to be left alone.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        causes: frozenset[str] = frozenset(),
        retry_after_seconds: float = 0.0,
    ) -> None:
        self.status, self.reason, self.causes = status, reason, causes
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{status} {reason}: {message}")


class Unreachable(Exception):
    """The API server did not answer."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object and where its collection is."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group_path(self) -> str:
        """URL path under which its group and version are served."""
        return ("/api/" if "/" not in self.api_version else "/apis/") + self.api_version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of the collection, of an object, or of its subresource."""
        parts = [self.group_path]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        return "/".join([*parts, *(part for part in (name, subresource) if part)])


VLLM_DEPLOYMENTS: Final = Resource(f"{GROUP}/{VERSION}", "VLLMDeployment", PLURAL)
NODES: Final = Resource("v1", "Node", "nodes", namespaced=False)
PODS: Final = Resource("v1", "Pod", "pods")
RESOURCE_QUOTAS: Final = Resource("v1", "ResourceQuota", "resourcequotas")
CONFIG_MAPS: Final = Resource("v1", "ConfigMap", "configmaps")
SECRETS: Final = Resource("v1", "Secret", "secrets")
SERVICES: Final = Resource("v1", "Service", "services")
CLAIMS: Final = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
DEPLOYMENTS: Final = Resource("apps/v1", "Deployment", "deployments")
LEASES: Final = Resource("coordination.k8s.io/v1", "Lease", "leases")
EVENTS: Final = Resource("events.k8s.io/v1", "Event", "events")
VALIDATING_WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    namespaced=False,
)

AUTOSCALERS: Final = Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
DISRUPTION_BUDGETS: Final = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICIES: Final = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
POD_MONITORS: Final = Resource("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
SCALED_OBJECTS: Final = Resource("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")
HTTP_ROUTES: Final = Resource("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
INFERENCE_POOLS: Final = Resource("inference.networking.k8s.io/v1", "InferencePool", "inferencepools")
LEADER_WORKER_SETS: Final = Resource("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets")

CHILDREN: Final = (DEPLOYMENTS, SERVICES, CLAIMS)
"""Kinds that the operator always makes, or could not do without."""
OPTIONAL_CHILDREN: Final = (
    AUTOSCALERS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    POD_MONITORS,
    SCALED_OBJECTS,
    HTTP_ROUTES,
    INFERENCE_POOLS,
)
"""Kinds that it makes where they are asked for and served."""

SOUGHT_CHILDREN: Final = (LEADER_WORKER_SETS, *OPTIONAL_CHILDREN)
"""Kinds that it makes and that not every cluster has; without a LeaderWorkerSet nothing runs on several nodes."""

BY_KIND: Final = {resource.kind: resource for resource in (*CHILDREN, *SOUGHT_CHILDREN)}


class Objects(Protocol):
    """What the runtime asks of the API server about single objects."""

    async def apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        """Apply an object by server-side apply; `force` takes fields from other managers. Returns it as it is then."""
        ...

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Apply an object's status subresource; returns its metadata."""
        ...

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest:
        """Return one object."""
        ...

    async def find(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """Return one object, or None, with no more than the right to list."""
        ...

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> None:
        """Delete an object, if it is still the one with that uid."""
        ...

    async def create(self, resource: Resource, namespace: str, manifest: Manifest) -> None:
        """Create an object."""
        ...

    async def update(self, resource: Resource, namespace: str | None, manifest: Manifest) -> Manifest:
        """Replace an object, if it still has the resourceVersion that the manifest states; returns it."""
        ...


class Kube(Objects, Protocol):
    """All that the runtime asks of the API server."""

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: str = "", keep: Keep = as_it_is
    ) -> tuple[list[Any], str]:
        """Return what `keep` keeps of all objects, and the resourceVersion from which to watch."""
        ...

    def watch(
        self, resource: Resource, namespace: str | None, *, version: str, seconds: int, labels: str = ""
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield (type, object) until the server ends the stream."""
        ...


class AiohttpKube:
    """`Kube` over one aiohttp session; use it as an async context manager."""

    def __init__(
        self, answered: Callable[[str, str, int], None] = lambda verb, resource, code: None, *, agent: str = MANAGER
    ) -> None:
        """`answered` is told each request's HTTP verb, resource, and code (0: there was no answer).

        `agent` is what the API server's audit log calls this client.
        """
        self._configuration = load_configuration()
        self._answered = answered
        self._agent = agent
        self._session: aiohttp.ClientSession | None = None
        self._token: dict[str, str] = {}
        self._token_until = -math.inf

    async def __aenter__(self) -> AiohttpKube:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=transport_security(self._configuration), limit=128, keepalive_timeout=60
            ),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            headers={"User-Agent": self._agent},
            cookie_jar=aiohttp.DummyCookieJar(),
            # Of the kubeconfig or the environment, resolved once: aiohttp would ask a thread for it at each request.
            proxy=self._configuration.proxy,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        """See `Kube.apply`."""
        metadata = manifest["metadata"]
        path = BY_KIND[manifest["kind"]].path(metadata["namespace"], metadata["name"])
        return await self._apply(path, manifest, force=force, accept="application/json")

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """See `Kube.apply_status`."""
        metadata = manifest["metadata"]
        path = VLLM_DEPLOYMENTS.path(metadata["namespace"], metadata["name"], "status")
        return await self._apply(path, manifest, force=True, accept=_METADATA_ONLY)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest:
        """See `Kube.get`."""
        return await self._request("GET", resource.path(namespace, name))

    async def find(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """See `Objects.find`."""
        query = {"fieldSelector": f"metadata.name={name}"}
        page = await self._request("GET", resource.path(namespace), query=query)
        found: list[Manifest] = page.get("items") or []
        return found[0] if found else None

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> None:
        """See `Kube.delete`; an object that is gone already counts as deleted."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._request("DELETE", resource.path(namespace, name), body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def create(self, resource: Resource, namespace: str, manifest: Manifest) -> None:
        """See `Kube.create`."""
        await self._request("POST", resource.path(namespace), body=manifest, accept=_METADATA_ONLY)

    async def update(self, resource: Resource, namespace: str | None, manifest: Manifest) -> Manifest:
        """See `Objects.update`."""
        return await self._request("PUT", resource.path(namespace, manifest["metadata"]["name"]), body=manifest)

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: str = "", keep: Keep = as_it_is
    ) -> tuple[list[Any], str]:
        """See `Kube.list`; read in chunks, so that a large cluster is never one answer, nor in memory at once."""
        found: list[Any] = []
        query = {"limit": str(LIST_CHUNK), **({"labelSelector": labels} if labels else {})}
        while True:
            page = await self._request("GET", resource.path(namespace), query=query)
            # Items of a typed list carry neither.
            typed = {"apiVersion": resource.api_version, "kind": resource.kind}
            found += [keep({**typed, **item}) for item in page.get("items") or []]
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return found, str(metadata["resourceVersion"])
            query["continue"] = metadata["continue"]

    async def watch(
        self, resource: Resource, namespace: str | None, *, version: str, seconds: int, labels: str = ""
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """See `Kube.watch`.

        Raises:
            ApiError: among others 410 when `version` is too old: list again.
            Unreachable: the connection broke or fell silent.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        if labels:
            query["labelSelector"] = labels
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_SECONDS, sock_read=WATCH_SILENCE_SECONDS)
        url = f"{self._configuration.host}{resource.path(namespace)}?{urlencode(query)}"
        try:
            async with self._open().get(url, headers=self._headers(), timeout=timeout) as response:
                self._answered("WATCH", resource.plural, response.status)
                await _raise_for_status(response)
                async for line in lines_of(response.content):
                    event = parse_json(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError, NotJson) as error:
            raise Unreachable(f"watch of {resource.plural}: {error!r}") from error

    async def _apply(self, path: str, manifest: Manifest, *, force: bool, accept: str) -> Manifest:
        return await self._send(
            "PATCH",
            path,
            # Names of our own objects need no quoting, and to look for what does costs a few per cent of a reconcile.
            URL(f"{self._configuration.host}{path}?{_APPLY[force]}", encoded=True),
            body=manifest,
            content_type="application/apply-patch+yaml",
            accept=accept,
        )

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        accept: str = "application/json",
    ) -> Manifest:
        url = URL(f"{self._configuration.host}{path}" + (f"?{urlencode(query)}" if query else ""))
        return await self._send(method, path, url, body=body, content_type="application/json", accept=accept)

    async def _send(
        self, method: str, path: str, url: URL, *, body: Manifest | None, content_type: str, accept: str
    ) -> Manifest:
        headers = {**self._headers(), "Accept": accept}
        data = GuardedBody(body, content_type=content_type) if body is not None else None
        try:
            async with self._open().request(method, url, headers=headers, data=data) as response:
                self._answered(method, plural_of(path), response.status)
                await _raise_for_status(response)
                answer: Manifest = parse_json(await response.read())
                return answer
        except (aiohttp.ClientError, TimeoutError, OSError, NotJson) as error:
            self._answered(method, plural_of(path), 0)
            raise Unreachable(f"{method} {path}: {error!r}") from error

    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "use AiohttpKube as an async context manager"
        return self._session

    def _headers(self) -> dict[str, str]:
        """Return what authenticates a request; the hook behind it reads a rotated token again."""
        now = time.monotonic()
        if now >= self._token_until:
            self._token = authorization(self._configuration)
            self._token_until = now + TOKEN_CHECK_SECONDS
        return self._token


def plural_of(path: str) -> str:
    """Return the plural of the resource that a URL path is about; of a group's own path, its version."""
    parts = path.removeprefix("/apis/").removeprefix("/api/").split("/")
    after_version = parts[1:] if path.startswith("/api/") else parts[2:]
    if after_version[:1] == ["namespaces"] and len(after_version) > 2:
        after_version = after_version[2:]
    return after_version[0] if after_version else parts[-1]


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    text = await response.text(errors="replace")
    try:
        status = json.loads(text)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))[:2000]
        causes = frozenset(str(cause.get("reason")) for cause in (status.get("details") or {}).get("causes") or ())
    except (ValueError, AttributeError, RecursionError, TypeError):
        reason, message, causes = response.reason or "", text[:500], frozenset()
    raise ApiError(response.status, reason, message, causes=causes, retry_after_seconds=_retry_after(response.headers))


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of `Retry-After`, of which the API server never sends the form with a date."""
    text = headers.get("Retry-After", "")
    return min(LONGEST_RETRY_AFTER_SECONDS, float(text)) if text.isdecimal() else 0.0
