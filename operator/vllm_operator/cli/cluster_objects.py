"""The objects that an inventory is made of, listed from the cluster of the current kubeconfig context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.nodes import UnreadableInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE: Final = 500
TIMEOUT_SECONDS: Final = 30
REQUIRED: Final = (("/api/v1/nodes", "Node"), ("/api/v1/pods", "Pod"))
OPTIONAL: Final = (
    ("/apis/resource.k8s.io/v1/resourceslices", "ResourceSlice"),
    ("/apis/resource.k8s.io/v1/resourceclaims", "ResourceClaim"),
    ("/apis/karpenter.sh/v1/nodepools", "NodePool"),
    ("/apis/karpenter.sh/v1/nodeclaims", "NodeClaim"),
    ("/apis/kueue.x-k8s.io/v1beta2/resourceflavors", "ResourceFlavor"),
    ("/apis/kueue.x-k8s.io/v1beta2/clusterqueues", "ClusterQueue"),
)
"""Kinds that a cluster may not have, or that the user may not be allowed to list."""
_ABSENT: Final = (403, 404)


def list_cluster() -> Iterator[Mapping[str, Any]]:
    """Yield the cluster's nodes, pods and, where they exist, device claims and declared capacity.

    Raises `UnreadableInput` when there is no kubeconfig, the API server does not answer, or nodes and pods may not be
    listed.
    """
    from kubernetes import client, config
    from urllib3.exceptions import HTTPError

    try:
        config.load_config()  # type: ignore[no-untyped-call]
        api = client.ApiClient()
        for path, kind in REQUIRED:
            yield from _listed(api, path, kind)
        for path, kind in OPTIONAL:
            try:
                yield from _listed(api, path, kind)
            except client.ApiException as error:
                if error.status not in _ABSENT:
                    raise
    except config.ConfigException as error:
        raise UnreadableInput(f"no cluster to read: {error}") from error
    except client.ApiException as error:
        raise UnreadableInput(f"the API server refused: {error.status} {error.reason}") from error
    except (HTTPError, OSError) as error:
        raise UnreadableInput(f"the API server does not answer: {error}") from error


def _listed(api: Any, path: str, kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of one collection as plain mappings, page by page."""
    query: list[tuple[str, str]] = [("limit", str(PAGE))]
    while True:
        page = api.call_api(
            path,
            "GET",
            query_params=query,
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
            response_type="object",
            _return_http_data_only=True,
            _request_timeout=TIMEOUT_SECONDS,
        )
        for item in page.get("items") or ():
            yield {**item, "kind": kind}
        token = (page.get("metadata") or {}).get("continue")
        if not token:
            return
        query = [("limit", str(PAGE)), ("continue", token)]
