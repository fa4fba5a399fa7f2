"""Every vendor, cloud and trap: a dump under tests/data/nodes with the records that it must give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from vllm_operator.cluster.documents import read_inventory

if TYPE_CHECKING:
    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.cluster.records import GpuOffer

DUMPS = Path(__file__).parents[2] / "data" / "nodes"
CASES = sorted(path for path in DUMPS.glob("**/*.yaml"))


def read_case(path: Path) -> dict[str, Any]:
    case = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(case, dict)
    return case


def as_expected(offer: GpuOffer) -> dict[str, Any]:
    gpu = offer.gpu_class
    return {
        "node": offer.node.name,
        "resource": gpu.resource_name,
        "vendor": gpu.vendor,
        "product": gpu.product,
        "memory_mib": None if gpu.memory_bytes is None else gpu.memory_bytes / 2**20,
        "basis": str(gpu.basis),
        "sharing": str(gpu.sharing),
        "capacity": offer.capacity,
        "allocatable": offer.allocatable,
        "free": offer.free,
        "usable": offer.usable,
        "mig_profile": gpu.mig_profile,
        "compute_capability": gpu.compute_capability,
        "interconnect": gpu.interconnect,
    }


def inventory_of(case: dict[str, Any]) -> Inventory:
    return read_inventory(case["objects"])


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_dump_gives_the_expected_offers(path: Path) -> None:
    case = read_case(path)
    assert [as_expected(offer) for offer in inventory_of(case).offers] == case["expected"]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_oddity_is_told_with_its_node_and_nothing_else_is(path: Path) -> None:
    case = read_case(path)
    warnings = inventory_of(case).warnings
    untold = [start for start in case["warnings"] if not any(warning.startswith(start) for warning in warnings)]
    unexpected = [text for text in warnings if not any(text.startswith(start) for start in case["warnings"])]
    assert (untold, unexpected) == ([], [])


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_unknown_memory_is_null_and_never_zero(path: Path) -> None:
    for offer in inventory_of(read_case(path)).offers:
        memory = offer.gpu_class.memory_bytes
        assert memory is None or memory > 0
        assert (memory is None) == (offer.gpu_class.basis == "Unknown")
