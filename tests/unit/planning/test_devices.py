"""What CUDA shows a pod of the memory that a node's label states."""

from __future__ import annotations

import pytest

from vllm_operator.cluster.records import GpuClass, Sharing
from vllm_operator.planning.devices import device_for

MIB = 2**20
GIB = 2**30


def gpu_class(product: str | None, memory_mib: int | None, sharing: Sharing = Sharing.EXCLUSIVE) -> GpuClass:
    memory = None if memory_mib is None else memory_mib * MIB
    return GpuClass(
        vendor="nvidia", resource_name="nvidia.com/gpu", product=product, memory_bytes=memory, sharing=sharing
    )


@pytest.mark.parametrize(
    ("product", "memory_mib", "visible_gib"),
    [
        ("NVIDIA-H100-80GB-HBM3", 81559, 79.18),
        ("NVIDIA-A100-SXM4-80GB", 81920, 79.25),
        ("NVIDIA-L4", 23034, 22.03),
        ("Tesla-T4", 15360, 14.56),
    ],
)
def test_a_measured_product_shows_what_start_up_logs_say(product: str, memory_mib: int, visible_gib: float) -> None:
    device = device_for(gpu_class(product, memory_mib))
    assert device is not None
    assert device.memory_bytes == int(visible_gib * GIB)


@pytest.mark.parametrize(
    ("product", "memory_mib", "sharing"),
    [
        ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", 9984, Sharing.MIG),
        ("NVIDIA-L4-SHARED", 11517, Sharing.MPS),
        ("NVIDIA-H100-80GB-HBM3", 40960, Sharing.EXCLUSIVE),
        ("NVIDIA-X900", 196608, Sharing.EXCLUSIVE),
        (None, 23034, Sharing.EXCLUSIVE),
    ],
    ids=["slice", "share", "less than the product has", "unknown product", "no product"],
)
def test_the_whole_cards_figure_is_not_taken_for_something_else(
    product: str | None, memory_mib: int, sharing: Sharing
) -> None:
    device = device_for(gpu_class(product, memory_mib, sharing))
    assert device is not None
    assert device.memory_bytes == int(memory_mib * MIB * 0.985)


def test_unknown_memory_is_no_device() -> None:
    assert device_for(gpu_class("NVIDIA-X900", None)) is None
