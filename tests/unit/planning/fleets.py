"""Clusters for planner tests, as the Kubernetes objects that the inventory is read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.api.spec import VLLMDeploymentSpec
from vllm_operator.cluster.documents import read_inventory
from vllm_operator.models import catalogue
from vllm_operator.planning.fanout import Change, affected, question_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU product with the labels that GPU Feature Discovery gives its nodes."""

    product: str
    memory_mib: int
    capability: tuple[int, int]


CARDS = {
    "T4": Card(product="Tesla-T4", memory_mib=15360, capability=(7, 5)),
    "L4": Card(product="NVIDIA-L4", memory_mib=23034, capability=(8, 9)),
    "A10G": Card(product="NVIDIA-A10G", memory_mib=23028, capability=(8, 6)),
    "A100-40": Card(product="NVIDIA-A100-SXM4-40GB", memory_mib=40960, capability=(8, 0)),
    "L40S": Card(product="NVIDIA-L40S", memory_mib=46068, capability=(8, 9)),
    "A100-80": Card(product="NVIDIA-A100-SXM4-80GB", memory_mib=81920, capability=(8, 0)),
    "H100": Card(product="NVIDIA-H100-80GB-HBM3", memory_mib=81559, capability=(9, 0)),
    "H200": Card(product="NVIDIA-H200", memory_mib=143771, capability=(9, 0)),
    "B200": Card(product="NVIDIA-B200", memory_mib=183359, capability=(10, 0)),
}


def node(
    card: str | None,
    name: str,
    gpus: int,
    *,
    taints: Sequence[Mapping[str, str]] = (),
    labels: Mapping[str, str] | None = None,
    cordoned: bool = False,
    ready: bool = True,
    resource: str = "nvidia.com/gpu",
) -> dict[str, Any]:
    """A node as `kubectl get node -o yaml` prints it; `card` None leaves it without GPU labels."""
    known: dict[str, str] = {"kubernetes.io/hostname": name}
    if card is not None:
        facts = CARDS[card]
        known |= {
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": facts.product,
            "nvidia.com/gpu.memory": str(facts.memory_mib),
            "nvidia.com/gpu.count": str(gpus),
            "nvidia.com/gpu.compute.major": str(facts.capability[0]),
            "nvidia.com/gpu.compute.minor": str(facts.capability[1]),
            "nvidia.com/gpu.replicas": "1",
            "nvidia.com/gpu.sharing-strategy": "none",
        }
    size = {"cpu": "96", "memory": "1000Gi", "pods": "110", resource: str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": known | dict(labels or {})},
        "spec": {"taints": list(taints), "unschedulable": cordoned},
        "status": {
            "capacity": size,
            "allocatable": size,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def pod(node_name: str, gpus: int, name: str | None = None, resource: str = "nvidia.com/gpu") -> dict[str, Any]:
    """A running pod that holds GPUs of a node."""
    requests = {resource: str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name or f"holds-{gpus}-of-{node_name}",
            "namespace": "other",
            "uid": f"{node_name}-{gpus}",
        },
        "spec": {
            "nodeName": node_name,
            "containers": [{"name": "main", "resources": {"requests": requests, "limits": requests}}],
        },
        "status": {"phase": "Running"},
    }


def inventory(*objects: Mapping[str, Any]) -> Inventory:
    """The inventory of some nodes and pods."""
    return read_inventory(objects)


def mixed_fleet() -> Inventory:
    """The fleet of the demo: one node of each common card, and one whose GPUs carry no labels."""
    return inventory(
        node("H100", "h100-0", 8),
        node("A100-40", "a100-0", 4),
        node("L40S", "l40s-0", 2),
        node("L4", "l4-0", 1),
        node("T4", "t4-0", 1),
        node(None, "plain-0", 4),
    )


def facts(model: str) -> ModelFacts:
    """The catalogue's facts of a model that these tests name."""
    known = catalogue.lookup(model)
    assert known is not None, f"{model} is not in the catalogue"
    return known


def spec(uri: str, /, *, model: Mapping[str, Any] | None = None, **sections: Any) -> VLLMDeploymentSpec:
    """A spec by its sections, written as in YAML; `model` adds to the model section."""
    return VLLMDeploymentSpec.model_validate({"model": {"uri": uri, **(model or {})}, **sections})


LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_70B = "meta-llama/Llama-3.3-70B-Instruct"
LLAMA_405B = "meta-llama/Llama-3.1-405B-Instruct"


def alters(found: Plan, old: Inventory, new: Inventory) -> bool:
    """Whether a change of the cluster could give another plan."""
    question = question_of(found)
    return question is None or affected(question, Change.between(old, new))
