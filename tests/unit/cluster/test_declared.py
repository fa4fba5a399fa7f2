"""Capacity that autoscalers and quotas declare, before any node has it."""

from __future__ import annotations

from typing import Any

from vllm_operator.cluster.documents import read_inventory

GPU = "nvidia.com/gpu"


def node_pool(*requirements: dict[str, Any], limits: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    template = {"spec": {"requirements": list(requirements), **more.pop("template_spec", {})}}
    spec = {"template": template, **({"limits": limits} if limits is not None else {})}
    return {"kind": "NodePool", "metadata": {"name": "pool"}, "spec": spec, **more}


def allows(key: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": list(values)}


def declared(*documents: dict[str, Any]) -> list[tuple[str, str | None, int | None, int]]:
    return [
        (
            offer.node.name,
            offer.gpu_class.product,
            None if offer.gpu_class.memory_bytes is None else offer.gpu_class.memory_bytes // 2**20,
            offer.allocatable,
        )
        for offer in read_inventory(documents).offers
        if offer.declared
    ]


H100 = (
    allows("karpenter.k8s.aws/instance-gpu-name", "h100"),
    allows("karpenter.k8s.aws/instance-gpu-memory", "81920"),
    allows("karpenter.k8s.aws/instance-gpu-count", "8"),
)


def test_a_pool_with_a_limit_brings_what_is_left_of_it() -> None:
    pool = node_pool(*H100, limits={GPU: 24}, status={"resources": {GPU: "8"}})
    assert declared(pool) == [("nodepool/pool", "h100", 81559, 8)] * 2


def test_a_pool_that_is_used_up_brings_nothing() -> None:
    assert declared(node_pool(*H100, limits={GPU: 8}, status={"resources": {GPU: 8}})) == []


def test_a_pool_without_a_limit_brings_a_bounded_number_of_nodes() -> None:
    assert len(declared(node_pool(*H100))) == 16


def test_instance_types_state_product_and_number() -> None:
    pool = node_pool(
        allows("node.kubernetes.io/instance-type", "g6e.xlarge", "g6e.12xlarge", "m5.large"), limits={GPU: 4}
    )
    assert declared(pool) == [("nodepool/pool", "L40S", 46068, 4)]


def test_families_state_their_largest_node() -> None:
    pool = node_pool(allows("karpenter.k8s.aws/instance-family", "g6", "p4de"), limits={GPU: 8})
    assert declared(pool) == [("nodepool/pool", "L4", 23034, 8), ("nodepool/pool", "A100-SXM4-80GB", 81920, 8)]


def test_azure_types_and_names() -> None:
    by_type = node_pool(allows("karpenter.azure.com/sku-name", "Standard_NC96ads_A100_v4"), limits={GPU: 4})
    assert declared(by_type) == [("nodepool/pool", "A100-80GB-PCIe", 81920, 4)]
    by_name = node_pool(allows("karpenter.azure.com/sku-gpu-name", "A100"), limits={GPU: 8})
    assert declared(by_name) == [("nodepool/pool", "A100", None, 8)]


def test_a_pool_of_gpu_categories_alone_is_unknown_and_not_nothing() -> None:
    pool = node_pool(allows("karpenter.k8s.aws/instance-category", "g", "p"), limits={GPU: 8})
    assert declared(pool) == [("nodepool/pool", None, None, 8)]


def test_pools_without_gpus_and_pools_that_are_not_ready_declare_nothing() -> None:
    assert declared(node_pool(allows("karpenter.k8s.aws/instance-category", "c", "m"))) == []
    not_ready = {"conditions": [{"type": "Ready", "status": "False"}]}
    assert declared(node_pool(*H100, status=not_ready)) == []


def test_a_pools_taints_and_fixed_labels_are_on_its_nodes() -> None:
    taint = {"key": GPU, "value": "present", "effect": "NoSchedule"}
    zone = allows("topology.kubernetes.io/zone", "eu-1a")
    (offer,) = read_inventory([node_pool(*H100, zone, limits={GPU: 8}, template_spec={"taints": [taint]})]).offers
    assert [(one.key, one.value, one.effect) for one in offer.node.taints] == [(GPU, "present", "NoSchedule")]
    assert offer.node.labels["topology.kubernetes.io/zone"] == "eu-1a"
    assert offer.node.labels["karpenter.sh/nodepool"] == "pool"


def test_declared_capacity_can_not_be_requested_yet() -> None:
    (offer,) = read_inventory([node_pool(*H100, limits={GPU: 8})]).offers
    assert (offer.declared, offer.usable, offer.free, str(offer.gpu_class.basis)) == (True, False, 0, "Declared")


def node_claim(registered: str) -> dict[str, Any]:
    labels = {"karpenter.k8s.aws/instance-gpu-name": "l4", "karpenter.k8s.aws/instance-gpu-memory": "22888"}
    conditions = [{"type": "Launched", "status": "True"}, {"type": "Registered", "status": registered}]
    status = {"capacity": {GPU: "4"}, "allocatable": {GPU: "4"}, "conditions": conditions}
    return {"kind": "NodeClaim", "metadata": {"name": "new", "labels": labels}, "status": status}


def test_a_node_claim_counts_until_it_is_a_node() -> None:
    assert declared(node_claim("False")) == [("nodeclaim/new", "l4", 23034, 4)]
    assert declared(node_claim("True")) == []


def flavor(**labels: str) -> dict[str, Any]:
    return {"kind": "ResourceFlavor", "metadata": {"name": "a100"}, "spec": {"nodeLabels": labels}}


def queue(quota: int, resource: str = GPU) -> dict[str, Any]:
    flavors = [{"name": "a100", "resources": [{"name": resource, "nominalQuota": quota}]}]
    return {"kind": "ClusterQueue", "metadata": {"name": "q"}, "spec": {"resourceGroups": [{"flavors": flavors}]}}


A100 = {"cloud.google.com/gke-accelerator": "nvidia-a100-80gb", "node.kubernetes.io/instance-type": "a2-ultragpu-4g"}


def test_a_quota_is_declared_by_its_flavor() -> None:
    assert declared(flavor(**A100), queue(8)) == [("flavor/a100", "nvidia-a100-80gb", 81920, 4)] * 2


def test_a_quota_covers_the_nodes_that_exist_already() -> None:
    node = {
        "kind": "Node",
        "metadata": {"name": "n", "labels": A100},
        "status": {"allocatable": {GPU: "4"}},
    }
    assert declared(flavor(**A100), queue(8), node) == [("flavor/a100", "nvidia-a100-80gb", 81920, 4)]
    assert declared(flavor(**A100), queue(4), node) == []


def test_quotas_of_other_resources_and_flavors_without_a_quota_declare_nothing() -> None:
    assert declared(flavor(**A100), queue(64, "cpu")) == []
    assert declared(flavor(**A100)) == []
