"""5,000 nodes and 50,000 pods: the first snapshot within 3 s, a change within 1 ms, 150 MB at most."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.cluster.state import ClusterState

NODES = 5_000
PODS = 50_000
GPU = "nvidia.com/gpu"


def node(index: int) -> dict[str, Any]:
    features = {f"feature.node.kubernetes.io/cpu-{number}": "true" for number in range(40)}
    labels = {
        "kubernetes.io/hostname": f"node-{index}",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.count": "8",
        "nvidia.com/gpu.replicas": "1",
        **features,
    }
    allocatable = {GPU: "8", "cpu": "127", "memory": "2110000000Ki", "pods": "110"}
    conditions = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": {"name": f"node-{index}", "labels": labels},
        "spec": {"taints": [{"key": GPU, "effect": "NoSchedule"}]},
        "status": {"capacity": dict(allocatable), "allocatable": allocatable, "conditions": conditions},
    }


def pod(index: int, gpus: int) -> dict[str, Any]:
    limits = {"memory": "2Gi"} | ({GPU: str(gpus)} if gpus else {})
    server = {"name": "server", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": limits}}
    sidecar = {"name": "sidecar", "resources": {"requests": {"cpu": "10m"}}}
    return {
        "metadata": {"name": f"pod-{index}", "namespace": f"team-{index % 20}", "uid": f"{index:032x}"},
        "spec": {"nodeName": f"node-{index % NODES}", "containers": [server, sidecar]},
        "status": {"phase": "Running"},
    }


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def test_the_inventory_keeps_up_with_a_large_cluster() -> None:
    before_mib = resident_mib()
    state = ClusterState()
    spent = 0.0
    for batch in (range(start, start + 500) for start in range(0, NODES, 500)):
        objects = [node(index) for index in batch]
        started = time.process_time()
        for obj in objects:
            state.upsert_node(project_node(obj))
        spent += time.process_time() - started
    for batch in (range(start, start + 5_000) for start in range(0, PODS, 5_000)):
        objects = [pod(index, gpus=1 if index < NODES else 0) for index in batch]
        started = time.process_time()
        records = [project_pod(obj) for obj in objects]
        for record in records:
            assert record is not None
            state.upsert_pod(record)
        spent += time.process_time() - started
    started = time.process_time()
    inventory = state.snapshot()
    spent += time.process_time() - started
    assert len(inventory.offers) == NODES
    assert spent <= 3.0
    assert resident_mib() - before_mib <= 150

    changes = []
    for index in range(300):
        obj = pod(index, gpus=2 + index % 3)
        started = time.process_time()
        record = project_pod(obj)
        assert record is not None
        assert state.upsert_pod(record)
        assert state.snapshot().version
        changes.append(time.process_time() - started)
    assert median(changes) <= 0.001
