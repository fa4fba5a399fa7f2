"""What the cluster can do besides running pods: from its objects, from its API server, or as the user says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.nodes import UnreadableInput
from vllm_operator.planning.defaults import Capabilities

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.cli.kube_api import KubeApi

LEADER_WORKER_SETS: Final = "leaderworkersets.leaderworkerset.x-k8s.io"
"""Name of the CustomResourceDefinition."""
_DISCOVERY: Final = "/apis/leaderworkerset.x-k8s.io/v1"
_NOT_FOUND: Final = 404


def capabilities_in(documents: Iterable[Mapping[str, Any]]) -> Capabilities:
    """Read them from what stands beside nodes and pods: the definition of LeaderWorkerSet, or one that exists."""
    from vllm_operator.cluster.documents import each_object

    return Capabilities(
        leader_worker_sets=any(
            obj.get("kind") == "LeaderWorkerSet"
            or (obj.get("kind") == "CustomResourceDefinition" and _name(obj) == LEADER_WORKER_SETS)
            for document in documents
            for obj in each_object(document)
        )
    )


def capabilities_of_cluster(api: KubeApi | None = None) -> Capabilities:
    """Ask the API server of the current context, whose discovery everybody may read. Raises `UnreadableInput`."""
    from vllm_operator.cli.kube_api import ApiServerError, KubeApi

    try:
        (api or KubeApi()).get(_DISCOVERY)
    except ApiServerError as error:
        if error.status != _NOT_FOUND:
            raise UnreadableInput(str(error)) from error
        return Capabilities()
    return Capabilities(leader_worker_sets=True)


def _name(obj: Mapping[str, Any]) -> object:
    metadata = obj.get("metadata")
    return metadata.get("name") if isinstance(metadata, dict) else None
