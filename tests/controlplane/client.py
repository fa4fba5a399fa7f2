"""A small synchronous client for tests: plain objects, and waits that watch instead of polling."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.controlplane.given import GivenCluster
    from tests.controlplane.plane import ControlPlane
    from tests.node.node import RealNode

Object = dict[str, Any]

COLLECTIONS = {
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "Event": "/apis/events.k8s.io/v1/namespaces/{namespace}/events",
    "HTTPRoute": "/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers",
    "InferencePool": "/apis/inference.networking.k8s.io/v1/namespaces/{namespace}/inferencepools",
    "LeaderWorkerSet": "/apis/leaderworkerset.x-k8s.io/v1/namespaces/{namespace}/leaderworkersets",
    "Namespace": "/api/v1/namespaces",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "Node": "/api/v1/nodes",
    "PersistentVolume": "/api/v1/persistentvolumes",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "PodMonitor": "/apis/monitoring.coreos.com/v1/namespaces/{namespace}/podmonitors",
    "ReplicaSet": "/apis/apps/v1/namespaces/{namespace}/replicasets",
    "ResourceQuota": "/api/v1/namespaces/{namespace}/resourcequotas",
    "ScaledObject": "/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "VLLMDeployment": "/apis/vllm-operator.io/v1alpha1/namespaces/{namespace}/vllmdeployments",
    "ValidatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
}
WAIT_SECONDS = 30.0


class Refused(Exception):
    """The API server refused; `status` is the HTTP code, `message` what a user would read."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(f"{status}: {message}")


class TimedOut(AssertionError):
    """What was waited for did not come; the message holds what was there instead."""


class Api:
    """The API server as the administrator sees it. `warnings` holds those of the last request."""

    def __init__(self, plane: ControlPlane | GivenCluster | RealNode) -> None:
        self._server = plane.server
        self._context = plane.client_context()
        self.warnings: list[str] = []

    def get(self, kind: str, name: str, namespace: str = "default") -> Object:
        """Return one object.

        Raises:
            Refused: with status 404 when it is not there.
        """
        return self._send("GET", f"{_path(kind, namespace)}/{name}")

    def find(self, kind: str, name: str, namespace: str = "default") -> Object | None:
        """Return one object, or None."""
        try:
            return self.get(kind, name, namespace)
        except Refused as error:
            if error.status != 404:
                raise
            return None

    def list(self, kind: str, namespace: str = "default", **query: str) -> list[Object]:
        """Return all objects of a kind in a namespace."""
        items: list[Object] = self._send("GET", _path(kind, namespace), query=query)["items"]
        return items

    def create(self, obj: Object, *, dry_run: bool = False) -> Object:
        """Create an object under strict field validation."""
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        return self._send("POST", _path(obj["kind"], _namespace(obj)), body=obj, query=query)

    def patch(
        self, kind: str, name: str, patch: Object, namespace: str = "default", *, subresource: str = ""
    ) -> Object:
        """Apply a JSON merge patch."""
        path = "/".join([_path(kind, namespace), name, *([subresource] if subresource else [])])
        return self._send("PATCH", path, body=patch, content_type="application/merge-patch+json")

    def edit(self, kind: str, name: str, operations: Sequence[Object], namespace: str = "default") -> Object:
        """Apply a JSON patch."""
        path = f"{_path(kind, namespace)}/{name}"
        return self._send("PATCH", path, body=operations, content_type="application/json-patch+json")

    def evict(self, pod: str, namespace: str) -> None:
        """Ask for a pod's eviction, as a drain does.

        Raises:
            Refused: with status 429 while a disruption budget does not allow it.
        """
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        self._send("POST", f"{_path('Pod', namespace)}/{pod}/eviction", body=body)

    def apply(self, obj: Object, *, manager: str = "test") -> Object:
        """Apply an object by server-side apply."""
        path = f"{_path(obj['kind'], _namespace(obj))}/{obj['metadata']['name']}"
        query = {"fieldManager": manager, "force": "true"}
        return self._send("PATCH", path, body=obj, query=query, content_type="application/apply-patch+yaml")

    def delete(self, kind: str, name: str, namespace: str = "default", *, propagation: str = "Background") -> None:
        """Delete an object, if it is there."""
        try:
            self._send("DELETE", f"{_path(kind, namespace)}/{name}", query={"propagationPolicy": propagation})
        except Refused as error:
            if error.status != 404:
                raise

    def delete_all(self, kind: str, namespace: str = "default") -> None:
        """Delete all objects of a kind in a namespace."""
        self._send("DELETE", _path(kind, namespace))

    def raw(self, path: str) -> str:
        """Return the text of any path, such as /metrics."""
        with self._open("GET", path) as response:
            text: str = response.read().decode()
            return text

    def wait(
        self,
        kind: str,
        name: str,
        holds: Callable[[Object], bool],
        namespace: str = "default",
        *,
        seconds: float = WAIT_SECONDS,
    ) -> Object:
        """Watch one object until a predicate holds of it and return it.

        Raises:
            TimedOut: it did not within `seconds`.
        """
        last: Object | None = None
        for obj in self._versions(kind, name, namespace, time.monotonic() + seconds):
            last = obj
            if obj is not None and holds(obj):
                return obj
        shown = json.dumps((last or {}).get("status", last), indent=1)[:4000]
        raise TimedOut(f"{kind} {namespace}/{name} was not as expected within {seconds} s; last seen: {shown}")

    def wait_gone(self, kind: str, name: str, namespace: str = "default", *, seconds: float = WAIT_SECONDS) -> None:
        """Watch until an object is gone.

        Raises:
            TimedOut: it was still there after `seconds`.
        """
        for obj in self._versions(kind, name, namespace, time.monotonic() + seconds):
            if obj is None:
                return
        raise TimedOut(f"{kind} {namespace}/{name} is still there after {seconds} s")

    def _versions(self, kind: str, name: str, namespace: str, deadline: float) -> Iterator[Object | None]:
        """Yield an object's state now and at each change until the deadline; None while it is not there."""
        path = _path(kind, namespace)
        selector = {"fieldSelector": f"metadata.name={name}"}
        while time.monotonic() < deadline:
            found = self._send("GET", path, query=selector)
            yield found["items"][0] | {"kind": kind} if found["items"] else None
            left = max(1, int(deadline - time.monotonic()))
            version = found["metadata"]["resourceVersion"]
            query = {**selector, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(left)}
            try:
                with self._open("GET", path, query=query, timeout=left + 1.0) as stream:
                    for line in stream:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        yield None if event["type"] == "DELETED" else event["object"]
            except TimeoutError:
                return

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: Object | Sequence[Object] | None = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        with self._open(method, path, body=body, query=query, content_type=content_type) as response:
            self.warnings = [_unquoted(value) for value in response.headers.get_all("Warning") or []]
            answer: Object = json.loads(response.read())
            return answer

    def _open(
        self,
        method: str,
        path: str,
        *,
        body: Object | Sequence[Object] | None = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        timeout: float = 30.0,
    ) -> Any:
        url = self._server + path + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": content_type})
        try:
            return urllib.request.urlopen(request, context=self._context, timeout=timeout)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                message = json.loads(text).get("message", text)
            except ValueError:
                message = text
            raise Refused(error.code, message) from None


def condition(obj: Object, kind: str) -> Object:
    """Return one condition of a VLLMDeployment, {} where it is not there."""
    found = (obj.get("status") or {}).get("conditions") or []
    return next((entry for entry in found if entry["type"] == kind), {})


def _path(kind: str, namespace: str) -> str:
    return COLLECTIONS[kind].format(namespace=namespace)


def _namespace(obj: Object) -> str:
    return str(obj["metadata"].get("namespace", "default"))


def _unquoted(header: str) -> str:
    """Return the text of an RFC 7234 warning: `299 - "text"`."""
    return header.partition('"')[2].rstrip('"').replace('\\"', '"').replace("\\\\", "\\")
