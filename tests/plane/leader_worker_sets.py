"""What LeaderWorkerSet's controller and webhook do to pods and status, as far as the operator can see it.

Its pods are made from the templates that the operator rendered, with the names, labels and variables that the project
documents; the real scheduler places them, and KWOK starts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.controlplane.client import Api

Object = dict[str, Any]

PREFIX = "leaderworkerset.sigs.k8s.io"


def make_group(api: Api, workload: Object, index: int = 0) -> list[str]:
    """Make the pods of one group, the leader first; returns their names."""
    metadata, template = workload["metadata"], workload["spec"]["leaderWorkerTemplate"]
    names = []
    for rank in range(template["size"]):
        pods = template["workerTemplate" if rank else "leaderTemplate"]
        name = f"{metadata['name']}-{index}" + (f"-{rank}" if rank else "")
        variables = [
            {"name": "LWS_LEADER_ADDRESS", "value": f"{metadata['name']}-{index}.{metadata['name']}-{index}"},
            {"name": "LWS_GROUP_SIZE", "value": str(template["size"])},
            {"name": "LWS_WORKER_INDEX", "value": str(rank)},
        ]
        spec = {**pods["spec"], "containers": [_with(variables, one) for one in pods["spec"]["containers"]]}
        own = {f"{PREFIX}/name": metadata["name"], f"{PREFIX}/group-index": str(index)}
        labels = {**pods["metadata"]["labels"], **own, f"{PREFIX}/worker-index": str(rank)}
        api.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": metadata["namespace"],
                    "labels": labels,
                    "annotations": pods["metadata"]["annotations"],
                    "ownerReferences": [_owner(workload)],
                },
                "spec": spec,
            }
        )
        names.append(name)
    return names


def say(api: Api, workload: Object, *, replicas: int, ready: int, updated: int | None = None) -> None:
    """Write the status of a set."""
    metadata = workload["metadata"]
    status = {
        "observedGeneration": metadata["generation"],
        "conditions": [{"type": "Available", "status": "True" if ready == replicas else "False"}],
        "replicas": replicas,
        "readyReplicas": ready,
        "updatedReplicas": replicas if updated is None else updated,
    }
    api.patch("LeaderWorkerSet", metadata["name"], {"status": status}, metadata["namespace"], subresource="status")


def _with(variables: list[Object], container: Object) -> Object:
    names = {variable["name"] for variable in variables}
    kept = [variable for variable in container.get("env", []) if variable["name"] not in names]
    return {**container, "env": [*variables, *kept]}


def _owner(workload: Object) -> Object:
    return {
        "apiVersion": workload["apiVersion"],
        "kind": "LeaderWorkerSet",
        "name": workload["metadata"]["name"],
        "uid": workload["metadata"]["uid"],
    }
