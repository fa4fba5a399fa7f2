"""A new inventory is sorted from the last one where only pods came and went, and comes out the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.planning.fleets import node, pod

from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.cluster.state import ClusterState
from vllm_operator.planning.capacity import GpuFilter, Toleration
from vllm_operator.planning.sorting import MOST_CHANGES, capacity_for

if TYPE_CHECKING:
    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.planning.capacity import Capacity

FILTERS = (
    GpuFilter(),
    GpuFilter(products=("*H100*",)),
    GpuFilter(tolerations=(Toleration(operator="Exists"),)),
    GpuFilter(node_selector=(("pool", "x"),)),
)
PRODUCTS = ("H100", "L4")
NODES = [f"{PRODUCTS[number % 2].lower()}-{number:03d}" for number in range(MOST_CHANGES + 8)]
SIZES = (1, 2, 4, 8)


class Cluster:
    """More nodes than are ever counted again one by one, so that a copy of it is sorted from the start."""

    def __init__(self) -> None:
        self.state = ClusterState()
        for name in NODES:
            self.node(name)

    def node(self, name: str, *, cordoned: bool = False, gpus: int = 8) -> None:
        product = "H100" if name.startswith("h100") else "L4"
        self.state.upsert_node(project_node(node(product, name, gpus, cordoned=cordoned)))

    def pod(self, name: str, gpus: int) -> None:
        record = project_pod(pod(name, gpus, f"on-{name}"))
        assert record is not None
        self.state.upsert_pod(record)
        self.uid = record.uid


def sorted_anew(gpu_filter: GpuFilter, inventory: Inventory) -> Capacity:
    """Sort an inventory that says the same, of which nothing is known, for a request of the same meaning."""
    twin = replace(gpu_filter, tolerations=(*gpu_filter.tolerations, Toleration(key="nobody-has-this-taint")))
    return capacity_for(twin, replace(inventory, offers=tuple(replace(offer) for offer in inventory.offers)))


EVENTS = st.one_of(
    st.tuples(st.just("pod"), st.sampled_from(NODES[:6]), st.integers(1, 8)),
    st.tuples(st.just("cordoned"), st.sampled_from(NODES[:6]), st.just(8)),
    st.tuples(st.just("node"), st.sampled_from([*NODES[:6], "h100-new"]), st.sampled_from((4, 8))),
    st.tuples(st.just("gone"), st.sampled_from(NODES[:6]), st.just(0)),
)


@given(events=st.lists(st.lists(EVENTS, min_size=1, max_size=3), max_size=8))
def test_whatever_happens_it_is_as_if_it_were_sorted_from_the_start(events: list[list[tuple[str, str, int]]]) -> None:
    cluster = Cluster()
    for together in events:
        for what, name, gpus in together:
            if what == "pod":
                cluster.pod(name, gpus)
            elif what == "gone":
                cluster.state.remove_node(name)
            else:
                cluster.node(name, cordoned=what == "cordoned", gpus=gpus)
        inventory = cluster.state.snapshot()
        for gpu_filter in FILTERS:
            capacity, anew = capacity_for(gpu_filter, inventory), sorted_anew(gpu_filter, inventory)
            assert capacity == anew
            for one, other in zip(capacity.classes, anew.classes, strict=True):
                assert [one.room(size) for size in SIZES] == [other.room(size) for size in SIZES]
                assert [one.node_names(size) for size in SIZES] == [other.node_names(size) for size in SIZES]


def test_a_pod_on_a_node_leaves_the_classes_of_the_others_as_they_were_counted() -> None:
    cluster = Cluster()
    before = capacity_for(GpuFilter(), cluster.state.snapshot())
    cluster.pod("h100-000", 8)
    after = capacity_for(GpuFilter(), cluster.state.snapshot())
    assert [one is other for one, other in zip(before.classes, after.classes, strict=True)] == [True, False]
    assert before.classes[1].room(8).free - after.classes[1].room(8).free == 1
