"""Single requests to the API server of the current kubeconfig context, for commands that run and end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS: Final = 30
MERGE_PATCH: Final = "application/merge-patch+json"


class ApiServerError(Exception):
    """The API server cannot be asked, or says no; `status` is its HTTP status when it answered."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class KubeApi:
    """The official client's configuration and transport, with plain mappings in and out."""

    def __init__(self) -> None:
        """Read the kubeconfig, or the pod's own account inside a cluster. Raises `ApiServerError`."""
        from kubernetes import client, config

        try:
            config.load_kube_config()  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError) as no_kubeconfig:
            try:
                config.load_incluster_config()  # type: ignore[no-untyped-call]
            except config.ConfigException:
                raise ApiServerError(f"no cluster is configured: {no_kubeconfig}") from no_kubeconfig
        self._client = client.ApiClient()

    def get(self, path: str, **query: str) -> Mapping[str, Any]:
        """Return the object at a path. Raises `ApiServerError`."""
        return self._ask("GET", path, query, None, {"Accept": "application/json"})

    def merge(self, path: str, patch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Apply a JSON merge patch and return the object. Raises `ApiServerError`."""
        headers = {"Accept": "application/json", "Content-Type": MERGE_PATCH}
        return self._ask("PATCH", path, {"fieldManager": "vllm-operator-node-agent"}, patch, headers)

    def _ask(
        self, method: str, path: str, query: Mapping[str, str], body: object, headers: Mapping[str, str]
    ) -> Mapping[str, Any]:
        from urllib3.exceptions import HTTPError

        request = self._client.param_serialize(
            method=method,
            resource_path=path,
            query_params=list(query.items()),
            header_params=dict(headers),
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            data = response.read()  # type: ignore[no-untyped-call]
        except (HTTPError, OSError) as error:
            raise ApiServerError(f"the API server does not answer: {error}") from error
        answer = _decoded(data)
        if not 200 <= response.status < 300:
            reason = answer.get("message") or response.reason
            raise ApiServerError(f"the API server refused {method} {path}: {reason}", status=response.status)
        return answer


def _decoded(data: bytes | None) -> Mapping[str, Any]:
    try:
        answer = json.loads(data or b"{}")
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
