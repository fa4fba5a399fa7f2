"""`label-node` through the real pynvml, against a stand-in driver library and a small API server."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from vllm_operator.cluster.nodes import project_node

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    LabelNode = Callable[..., subprocess.CompletedProcess[str]]

H100 = "NVIDIA H100 80GB HBM3|81559|9.0|18|0|"
T4 = "Tesla T4|15360|7.5|-|-|"


def dry_run(label_node: LabelNode, *gpus: str) -> dict[str, str]:
    done = label_node("--dry-run", gpus=";".join(gpus))
    assert done.returncode == 0, done.stderr
    labels = json.loads(done.stdout)
    assert isinstance(labels, dict)
    return labels


def test_labels_are_those_of_gpu_feature_discovery(label_node: LabelNode) -> None:
    assert dry_run(label_node, H100, H100) == {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.count": "2",
        "nvidia.com/gpu.family": "hopper",
        "nvidia.com/gpu.compute.major": "9",
        "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/cuda.driver-version.full": "550.107.02",
        "nvidia.com/cuda.driver-version.major": "550",
        "nvidia.com/cuda.driver-version.minor": "107",
        "nvidia.com/cuda.driver-version.revision": "02",
        "nvidia.com/cuda.runtime-version.full": "12.4",
        "nvidia.com/cuda.runtime-version.major": "12",
        "nvidia.com/cuda.runtime-version.minor": "4",
        "nvidia.com/mig.capable": "false",
        "vllm-operator.io/gpu.interconnect": "NVLink",
        "vllm-operator.io/gpu.memory-in-use": "0",
    }


def test_gpus_without_links_are_on_pcie(label_node: LabelNode) -> None:
    assert dry_run(label_node, T4)["vllm-operator.io/gpu.interconnect"] == "PCIe"


def test_one_unlinked_gpu_makes_the_node_pcie(label_node: LabelNode) -> None:
    unlinked = "NVIDIA H100 80GB HBM3|81559|9.0|0|0|"
    assert dry_run(label_node, H100, unlinked)["vllm-operator.io/gpu.interconnect"] == "PCIe"


def test_memory_that_nvml_does_not_give_is_left_out_and_not_zero(label_node: LabelNode) -> None:
    labels = dry_run(label_node, "NVIDIA GB10|-|12.1|-|-|")
    assert "nvidia.com/gpu.memory" not in labels
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-GB10"


def test_a_machine_cut_into_slices_describes_slices_only(label_node: LabelNode) -> None:
    labels = dry_run(label_node, "NVIDIA A100-SXM4-40GB|40960|8.0|12|1g.5gb=4864,1g.5gb=4864,1g.10gb+me=9856|")
    assert labels["nvidia.com/mig-1g.5gb.count"] == "2"
    assert labels["nvidia.com/mig-1g.5gb.memory"] == "4864"
    assert labels["nvidia.com/mig-1g.5gb.product"] == "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"
    assert labels["nvidia.com/mig-1g.10gb.me.memory"] == "9856"
    assert "nvidia.com/gpu.memory" not in labels
    assert "nvidia.com/gpu.product" not in labels


def test_two_models_in_one_machine_are_not_described_as_one(label_node: LabelNode) -> None:
    assert set(dry_run(label_node, H100, T4)) <= {
        "vllm-operator.io/gpu.interconnect",
        "vllm-operator.io/gpu.memory-in-use",
    }


def test_memory_of_processes_outside_pods_is_counted_on_the_fullest_gpu(label_node: LabelNode) -> None:
    """This very process is in no pod here, so what it holds counts; 1,000 MiB round up to 1,024."""
    held = f"NVIDIA H100 80GB HBM3|81559|9.0|18|0|{os.getpid()}=1000"
    expected = None if _in_a_pod() else "1024"
    assert dry_run(label_node, H100, held).get("vllm-operator.io/gpu.memory-in-use") == (expected or "0")


def test_memory_in_use_is_left_out_when_the_processes_cannot_be_seen(label_node: LabelNode) -> None:
    unseen = "NVIDIA H100 80GB HBM3|81559|9.0|18|0|4194399=1000"
    assert "vllm-operator.io/gpu.memory-in-use" not in dry_run(label_node, unseen)


def test_no_driver_is_said_and_changes_nothing(label_node: LabelNode) -> None:
    done = label_node("--dry-run", gpus=None)
    assert done.returncode == 1
    assert "Driver Not Loaded" in done.stderr


def test_the_node_is_named_by_the_caller(label_node: LabelNode) -> None:
    done = label_node(gpus=H100)
    assert done.returncode == 2
    assert "--node-name" in done.stderr


def label_cluster(label_node: LabelNode, one_node: Any, tmp_path: Path, labels: dict[str, str], gpus: str) -> Any:
    node = one_node(dict(labels))
    kubeconfig = node.write_kubeconfig(tmp_path / "kubeconfig")
    done = label_node("--node-name", "gpu-1", gpus=gpus, kubeconfig=kubeconfig)
    assert done.returncode == 0, done.stderr
    return node


def test_a_bare_node_becomes_one_the_planner_can_read(label_node: LabelNode, one_node: Any, tmp_path: Path) -> None:
    node = label_cluster(label_node, one_node, tmp_path, {"kubernetes.io/hostname": "gpu-1"}, f"{H100};{H100}")
    status = {"allocatable": {"nvidia.com/gpu": "2"}}
    record = project_node({"metadata": {"name": "gpu-1", "labels": node.labels}, "status": status})
    gpu_class = record.gpus[0].gpu_class
    assert (gpu_class.memory_bytes, gpu_class.interconnect) == (81559 * 2**20, "NVLink")
    assert record.gpus[0].warnings == ()


def test_a_second_run_writes_nothing(label_node: LabelNode, one_node: Any, tmp_path: Path) -> None:
    node = label_cluster(label_node, one_node, tmp_path, {}, H100)
    label_node("--node-name", "gpu-1", gpus=H100, kubeconfig=tmp_path / "kubeconfig")
    assert len(node.patches) == 1


GFD = {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.count": "1",
    "nvidia.com/gfd.timestamp": "1748575819",
}


@pytest.mark.parametrize("foreign", [GFD, {"nvidia.com/gpu.product": "by-hand"}], ids=["gfd", "by hand"])
def test_labels_of_others_are_never_changed(
    label_node: LabelNode, one_node: Any, tmp_path: Path, foreign: dict[str, str]
) -> None:
    node = label_cluster(label_node, one_node, tmp_path, foreign, H100)
    (patch,) = node.patches
    assert set(patch["metadata"]["labels"]) == {
        "vllm-operator.io/gpu.interconnect",
        "vllm-operator.io/gpu.memory-in-use",
    }
    assert foreign.items() <= node.labels.items()


def test_what_it_wrote_for_gpus_that_are_gone_is_removed(label_node: LabelNode, one_node: Any, tmp_path: Path) -> None:
    node = label_cluster(label_node, one_node, tmp_path, {"nvidia.com/gpu.deploy.driver": "true"}, H100)
    label_node("--node-name", "gpu-1", gpus="", kubeconfig=tmp_path / "kubeconfig")
    assert node.labels == {"nvidia.com/gpu.deploy.driver": "true"}


def test_an_unknown_node_is_an_error_with_the_servers_words(
    label_node: LabelNode, one_node: Any, tmp_path: Path
) -> None:
    kubeconfig = one_node({}).write_kubeconfig(tmp_path / "kubeconfig")
    done = label_node("--node-name", "other", gpus=H100, kubeconfig=kubeconfig)
    assert done.returncode == 1
    assert 'nodes "other" not found' in done.stderr


def _in_a_pod() -> bool:
    with open("/proc/self/cgroup", encoding="utf-8") as groups:
        return "kubepods" in groups.read()
