"""Plans as the planner makes them, by hand, so that rendering is tested apart from planning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.api.v1alpha1 import VLLMDeployment, parse_deployment
from vllm_operator.cluster.records import GpuClass
from vllm_operator.planning.plan import Placement, Plan, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

GIB = 1024**3


def deployment_of(spec: Mapping[str, Any], name: str = "example") -> VLLMDeployment:
    return parse_deployment(
        {
            "apiVersion": "vllm-operator.io/v1alpha1",
            "kind": "VLLMDeployment",
            "metadata": {"name": name},
            "spec": {"model": {"uri": "org/name"}, **spec},
        }
    )


def known_to_kubernetes(obj: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what Kubernetes' own schemas can judge of an object: of a LeaderWorkerSet its pods."""
    if obj["kind"] != "LeaderWorkerSet":
        return [dict(obj)]
    templates = obj["spec"]["leaderWorkerTemplate"]
    pods = (templates["leaderTemplate"], templates["workerTemplate"])
    return [{"apiVersion": "v1", "kind": "Pod", **pod} for pod in pods]


def plan_of(
    *,
    args: tuple[str, ...] = ("org/name", "--max-model-len", "8192"),
    resource_name: str = "nvidia.com/gpu",
    gpus: int = 1,
    nodes: int = 1,
    node_terms: tuple[Mapping[str, tuple[str, ...]], ...] = ({"nvidia.com/gpu.product": ("NVIDIA-H100-80GB-HBM3",)},),
    image: str = "vllm/vllm-openai:v0.33.0",
    engine_version: str = "0.33.0",
    checkpoint_bytes: int | None = 16_000_000_000,
    has_room_for_surge: bool = False,
) -> Plan:
    gpu_class = GpuClass(
        vendor="nvidia", resource_name=resource_name, product="NVIDIA-H100-80GB-HBM3", memory_bytes=80 * GIB
    )
    return Plan(
        verdict=Verdict.FITS,
        oom_risk=None,
        message="fits",
        placement=Placement(
            gpu_class=gpu_class,
            gpus_per_replica=gpus,
            nodes=("node",),
            node_selector_terms=node_terms,
            nodes_per_replica=nodes,
        ),
        tensor_parallel_size=gpus // nodes,
        pipeline_parallel_size=nodes,
        image=image,
        engine_version=engine_version,
        model=args[0],
        args=args,
        checkpoint_bytes=checkpoint_bytes,
        has_room_for_surge=has_room_for_surge,
        hash="0123456789abcdef",
    )
