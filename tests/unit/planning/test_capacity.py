"""Which offers a request may use, and how many replicas they hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.planning.fleets import LLAMA_8B, facts, inventory, node, pod, spec

from vllm_operator.cluster.records import Taint
from vllm_operator.planning.capacity import Exclusion, GpuFilter, Toleration
from vllm_operator.planning.decide import plan
from vllm_operator.planning.plan import Verdict
from vllm_operator.planning.sorting import capacity_for

ANY = GpuFilter()


def test_rooms_are_counted_node_by_node() -> None:
    cluster = inventory(node("H100", "a", 8), node("H100", "b", 8), pod("b", 3))
    (only,) = capacity_for(ANY, cluster).classes
    assert (only.room(4).free, only.room(4).allocatable) == (3, 4)
    assert (only.room(8).free, only.room(8).allocatable) == (1, 2)
    assert only.room(16).allocatable == 0
    assert only.node_names(8) == ("a", "b")


def test_a_snapshot_is_sorted_once_for_each_gpu_section() -> None:
    cluster = inventory(node("H100", "a", 8))
    assert capacity_for(ANY, cluster) is capacity_for(GpuFilter(), cluster)
    assert capacity_for(ANY, cluster) is not capacity_for(replace(ANY, products=("*L4*",)), cluster)


@pytest.mark.parametrize(
    ("wish", "exclusion"),
    [
        pytest.param(GpuFilter(products=("*L4*",)), Exclusion.PRODUCT, id="product"),
        pytest.param(GpuFilter(min_memory_bytes=100 * 2**30), Exclusion.MEMORY, id="memory"),
        pytest.param(GpuFilter(node_selector=(("pool", "x"),)), Exclusion.NODE_SELECTOR, id="node-selector"),
    ],
)
def test_what_the_request_rules_out_is_remembered_with_its_reason(wish: GpuFilter, exclusion: Exclusion) -> None:
    capacity = capacity_for(wish, inventory(node("H100", "a", 8)))
    assert capacity.classes == ()
    assert [offer.node.name for offer in capacity.excluded[exclusion]] == ["a"]
    assert exclusion.field


def test_an_unknown_product_or_memory_is_not_ruled_out() -> None:
    wish = GpuFilter(products=("*H100*",), min_memory_bytes=100 * 2**30)
    assert len(capacity_for(wish, inventory(node(None, "plain", 4))).classes) == 1


@pytest.mark.parametrize(
    ("toleration", "tolerates"),
    [
        pytest.param(Toleration(operator="Exists"), True, id="everything"),
        pytest.param(Toleration(key="team", operator="Exists"), True, id="any-value"),
        pytest.param(Toleration(key="team", value="a"), True, id="this-value"),
        pytest.param(Toleration(key="team", value="b"), False, id="another-value"),
        pytest.param(Toleration(key="team", value="a", effect="NoExecute"), False, id="another-effect"),
        pytest.param(Toleration(), False, id="nothing"),
    ],
)
def test_tolerations_are_read_as_the_scheduler_reads_them(toleration: Toleration, tolerates: bool) -> None:
    assert toleration.tolerates(Taint(key="team", value="a", effect="NoSchedule")) is tolerates


def test_a_preference_keeps_nobody_away() -> None:
    taint = {"key": "x", "effect": "PreferNoSchedule"}
    assert len(capacity_for(ANY, inventory(node("H100", "a", 8, taints=[taint]))).classes) == 1


def test_capacity_that_could_be_added_fits_when_scaled() -> None:
    there = inventory(node("H100", "a", 8))
    declared = replace(there, offers=tuple(replace(offer, declared=True, usable=False) for offer in there.offers))
    found = plan(spec(LLAMA_8B, workload={"contextLength": 8192}), facts(LLAMA_8B), declared)
    assert found.verdict is Verdict.FITS_WHEN_SCALED
    assert found.placement is not None
    assert found.placement.nodes == ()
    assert "once such a node is added" in found.message


CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("wish", "free"),
    [
        pytest.param(ANY, 0, id="kept-away"),
        pytest.param(GpuFilter(tolerations=(Toleration(operator="Exists"),)), 8, id="tolerates-everything"),
        pytest.param(GpuFilter(tolerations=(Toleration(key="team", operator="Exists"),)), 0, id="tolerates-another"),
    ],
)
def test_a_cordoned_node_has_room_once_it_is_back_or_for_who_tolerates_it(wish: GpuFilter, free: int) -> None:
    (only,) = capacity_for(wish, inventory(node("H100", "a", 8, taints=[CORDON], cordoned=True))).classes
    assert (only.room(1).free, only.room(1).allocatable) == (free, 8)


@pytest.mark.parametrize("state", ["not-ready", "unreachable", "disk-pressure", "network-unavailable"])
def test_a_taint_of_the_moment_keeps_pods_away_now_and_refuses_nothing(state: str) -> None:
    taint = {"key": f"node.kubernetes.io/{state}", "effect": "NoSchedule"}
    cluster = inventory(node("H100", "a", 8, taints=[taint]))
    found = plan(spec(LLAMA_8B, workload={"contextLength": 8192}), facts(LLAMA_8B), cluster)
    assert found.verdict is Verdict.FITS_IF_FREED


def test_scaled_capacity_is_told_from_nodes_that_the_request_rules_out() -> None:
    """Otherwise the scheduler would put the pod on the L4 at once, and it would run out of memory there."""
    there = inventory(node("L4", "small", 1))
    pool = inventory(node("H100", "pool", 8, labels={"karpenter.sh/nodepool": "h100"}))
    scaled = tuple(replace(offer, declared=True, usable=False) for offer in pool.offers)
    wanted = spec(LLAMA_8B, workload={"contextLength": 8192}, gpu={"products": ["*H100*"]})
    found = plan(wanted, facts(LLAMA_8B), replace(there, offers=there.offers + scaled))
    assert found.verdict is Verdict.FITS_WHEN_SCALED
    assert found.placement is not None
    assert [term["karpenter.sh/nodepool"] for term in found.placement.node_selector_terms] == [("h100",)]
