"""Whatever the objects hold, reading them never raises and never offers what is not there."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_operator.cluster import labels as label
from vllm_operator.cluster.documents import read_inventory

KEYS_WORDS = """
kind items metadata name namespace uid labels annotations spec status conditions type capacity allocatable
taints key value effect unschedulable containers initContainers resources requests limits restartPolicy nodeName
phase overhead driver pool generation resourceSliceCount devices attributes string version memory
consumesCounters counterSet counters sharedCounters allocation results device template requirements operator
values nodeLabels nodeTaints resourceGroups flavors nominalQuota nvidia.com/gpu nvidia.com/mig-1g.5gb
amd.com/gpu amd.com/cpx_nps4 gpu.intel.com/xe cpu pods hami.io/node-nvidia-register productName profile
"""
KEYS = st.sampled_from(KEYS_WORDS.split())
VALUES_WORDS = """
Node Pod ResourceSlice ResourceClaim NodePool NodeClaim ResourceFlavor ClusterQueue List NodeList Ready True
False In gpu.nvidia.com gpu mig 8 0 -1 40Gi 1e9999 80GB NVIDIA-A100-SXM4-40GB A100-SXM4-40GB-MIG-1g.5gb
time-slicing mps single mixed cpx_nps4 192G Always NoSchedule GPU-1,10,23034,100,NVIDIA-L4,0,true:
"""
VALUES = st.sampled_from(VALUES_WORDS.split())
LEAVES = st.one_of(VALUES, st.none(), st.booleans(), st.integers(-2, 10**20), st.floats(), st.text(max_size=8))
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(KEYS, st.text(max_size=4)), inner, max_size=6)
    ),
    max_leaves=30,
)
LABELS = st.dictionaries(
    st.one_of(
        st.sampled_from(
            sorted(value for name, value in vars(label).items() if name.isupper() and isinstance(value, str))
        ),
        st.sampled_from(["karpenter.k8s.aws/instance-gpu-memory", "karpenter.k8s.aws/instance-gpu-name"]),
        st.sampled_from(["gpu.nvidia.com/vram", "node.kubernetes.io/instance-type", "nvidia.com/mig-1g.5gb.memory"]),
    ),
    st.one_of(VALUES, st.sampled_from(["81559", "h100", "g6f.large", "1g.5gb"]), st.text(max_size=12), st.none()),
    max_size=12,
)
RESOURCES = st.dictionaries(
    st.sampled_from(
        ["nvidia.com/gpu", "nvidia.com/mig-1g.5gb", "amd.com/gpu", "amd.com/cpx_nps4", "gpu.intel.com/i915"]
    ),
    st.one_of(st.integers(-1, 99).map(str), LEAVES),
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ANYTHING, max_size=4))
def test_arbitrary_documents_are_read(documents: list[Any]) -> None:
    inventory = read_inventory(documents)
    assert isinstance(inventory.warnings, tuple)


@settings(max_examples=300, deadline=None)
@given(LABELS, RESOURCES, RESOURCES, st.dictionaries(st.just("hami.io/node-nvidia-register"), LEAVES))
def test_arbitrary_labels_never_make_memory_zero_or_add_gpus(
    labels: dict[str, Any], capacity: dict[str, Any], allocatable: dict[str, Any], annotations: dict[str, Any]
) -> None:
    metadata = {"name": "n", "labels": labels, "annotations": annotations}
    status = {"capacity": capacity, "allocatable": allocatable}
    for offer in read_inventory([{"kind": "Node", "metadata": metadata, "status": status}]).offers:
        memory = offer.gpu_class.memory_bytes
        assert memory is None or memory > 0
        assert (memory is None) == (offer.gpu_class.basis == "Unknown")
        assert offer.free <= offer.allocatable
        assert offer.allocatable > 0 or not offer.usable
        assert all("n" in warning for warning in offer.warnings)
