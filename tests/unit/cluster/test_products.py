"""Product names as the vendors, clouds and users spell them."""

from __future__ import annotations

import pytest

from vllm_operator.cluster.devices import DEVICES, MIB, formats_of
from vllm_operator.cluster.products import find_product, normalise


@pytest.mark.parametrize(
    ("name", "memory_mib", "interconnect"),
    [
        ("NVIDIA-H100-80GB-HBM3", 81559, "NVLink"),
        ("NVIDIA H100 80GB HBM3", 81559, "NVLink"),
        ("NVIDIA-H100-PCIe", 81559, "PCIe"),
        ("NVIDIA-H100-NVL", 95830, "PCIe"),
        ("NVIDIA-H200", 143771, "NVLink"),
        ("NVIDIA-GH200-480GB", 97871, "NVLink"),
        ("NVIDIA GH200 144G HBM3e", 146831, "NVLink"),
        ("NVIDIA-A100-SXM4-80GB", 81920, "NVLink"),
        ("NVIDIA-A100-80GB-PCIe", 81920, "PCIe"),
        ("A100-SXM4-40GB-MIG-1g.5gb", 40960, "NVLink"),
        ("A100_PCIE_40GB", 40960, "PCIe"),
        ("Tesla-V100-SXM2-32GB", 32768, "NVLink"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", 97887, "PCIe"),
        ("NVIDIA-RTX-6000-Ada-Generation", 49140, "PCIe"),
        ("Quadro-RTX-6000", 24576, "PCIe"),
        ("NVIDIA-RTX-A6000", 49140, "PCIe"),
        ("NVIDIA-GeForce-RTX-4090", 24564, "PCIe"),
        ("NVIDIA-L4-SHARED", 23034, "PCIe"),
        ("AMD_Instinct_MI300X_OAM", 196608, "InfinityFabric"),
        ("tpu-v5-lite-podslice", 16384, "ICI"),
    ],
)
def test_a_full_name_gives_one_device(name: str, memory_mib: int, interconnect: str) -> None:
    match = find_product(name)
    assert (match.memory_bytes, match.interconnect) == (memory_mib * MIB, interconnect)


@pytest.mark.parametrize(
    ("name", "choices_mib"),
    [("a100", (40960, 81920)), ("v100", (16384, 32768)), ("h100", (81559, 95830)), ("GH200", (97871, 146831))],
)
def test_an_ambiguous_name_gives_no_memory_but_its_choices(name: str, choices_mib: tuple[int, ...]) -> None:
    match = find_product(name)
    assert match.memory_bytes is None
    assert tuple(choice // MIB for choice in match.memory_choices_bytes) == choices_mib


@pytest.mark.parametrize(
    ("name", "not_this"),
    [
        ("NVIDIA-A10", "A100"),
        ("NVIDIA-A10G", "A10"),
        ("NVIDIA-L40S", "L4"),
        ("NVIDIA-L40", "L40S"),
        ("NVIDIA-GB200", "B200"),
        ("NVIDIA-GB300", "B300"),
        ("NVIDIA-H200", "H20"),
        ("Tesla-T4G", "T4"),
    ],
)
def test_a_name_within_a_name_is_another_product(name: str, not_this: str) -> None:
    products = {device.product for device in find_product(name).candidates}
    assert products
    assert not_this not in products


@pytest.mark.parametrize("name", ["NVIDIA-A1000", "GH100", "NVIDIA-X900", "GRID-T4-16Q", "", "-", "NVIDIA"])
def test_a_product_that_is_not_in_the_table_is_unknown(name: str) -> None:
    assert not find_product(name).known


def test_memory_decides_between_variants() -> None:
    match = find_product("a100")
    assert match.closest(81251 * MIB).memory_bytes == 81920 * MIB
    assert match.closest(39538 * MIB).memory_bytes == 40960 * MIB
    assert not match.closest(60000 * MIB).known


def test_ecc_off_is_the_same_product() -> None:
    assert find_product("NVIDIA-A10").closest(24564 * MIB).known


def test_two_sources_narrow_each_other_and_contradiction_leaves_the_first() -> None:
    assert find_product("a100").narrowed_by(find_product("A100-SXM4-40GB")).memory_bytes == 40960 * MIB
    assert find_product("T4").narrowed_by(find_product("L4")) == find_product("T4")


@pytest.mark.parametrize(
    ("capability", "formats"),
    [
        ("7.5", set()),
        ("8.0", {"bf16"}),
        ("8.9", {"bf16", "fp8"}),
        ("9.0", {"bf16", "fp8"}),
        ("10.3", {"bf16", "fp8", "fp4"}),
        ("12.0", {"bf16", "fp8", "fp4"}),
        (None, set()),
        ("x.y", set()),
    ],
)
def test_number_formats_follow_the_compute_capability(capability: str | None, formats: set[str]) -> None:
    assert formats_of(capability) == formats


def test_every_product_is_found_by_its_own_name() -> None:
    lost = [device.product for device in DEVICES if device not in find_product(device.product).candidates]
    assert lost == []


def test_every_device_has_a_source_and_plausible_figures() -> None:
    for device in DEVICES:
        assert device.source
        assert 2**30 < device.memory_bytes < 2**39
        assert device.bandwidth_gbs is None or 30 <= device.bandwidth_gbs <= 10_000


def test_maker_and_sharing_are_no_part_of_a_name() -> None:
    assert normalise("NVIDIA-Tesla T4-SHARED") == ("T4",)
