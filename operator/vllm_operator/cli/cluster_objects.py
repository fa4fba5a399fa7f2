"""The objects that an inventory is made of, listed from the cluster of the current kubeconfig context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.kube_api import ApiServerError, KubeApi

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE: Final = "500"
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


def list_cluster(api: KubeApi | None = None) -> Iterator[Mapping[str, Any]]:
    """Yield the cluster's nodes, pods and, where they exist, device claims and declared capacity.

    Raises `ApiServerError` when there is no kubeconfig, the API server does not answer, or nodes and pods may not be
    listed.
    """
    api = api or KubeApi()
    for path, kind in REQUIRED:
        yield from _listed(api, path, kind)
    for path, kind in OPTIONAL:
        try:
            yield from _listed(api, path, kind)
        except ApiServerError as error:
            if error.status not in _ABSENT:
                raise


def _listed(api: KubeApi, path: str, kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of one collection, page by page."""
    token = ""
    while True:
        page = api.get(path, limit=PAGE, **({"continue": token} if token else {}))
        for item in page.get("items") or ():
            yield {**item, "kind": kind}
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return
