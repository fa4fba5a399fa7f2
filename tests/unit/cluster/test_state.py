"""The cluster's state: order does not matter, nothing is promised twice, and one event costs one node."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_operator.cluster.dra import project_claim, project_slice
from vllm_operator.cluster.inventory import Inventory
from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.cluster.state import ClusterState

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from vllm_operator.cluster.dra import ClaimRecord, SliceRecord
    from vllm_operator.cluster.records import NodeRecord, PodRecord

GPU = "nvidia.com/gpu"
DRIVER = "gpu.nvidia.com"


def node(name: str, gpus: int = 8, **labels: str) -> NodeRecord:
    allocatable = {"cpu": "64", "memory": "512Gi", "pods": "110"} | ({GPU: str(gpus)} if gpus else {})
    known = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"} if gpus else {}
    return project_node({"metadata": {"name": name, "labels": known | labels}, "status": {"allocatable": allocatable}})


def pod(name: str, node_name: str | None, gpus: int = 1, owner: str | None = None) -> PodRecord:
    labels = {}
    if owner:
        labels = {"app.kubernetes.io/managed-by": "vllm-operator", "app.kubernetes.io/instance": owner}
    requests = {"cpu": "1", "memory": "1Gi"} | ({GPU: str(gpus)} if gpus else {})
    spec = {"nodeName": node_name, "containers": [{"resources": {"requests": requests}}]}
    record = project_pod({"metadata": {"name": name, "namespace": "team", "uid": name, "labels": labels}, "spec": spec})
    assert record is not None
    return record


def resource_slice(name: str, node_name: str, devices: int, *, generation: int = 1, count: int = 1) -> SliceRecord:
    listed = [
        {
            "name": f"{name}-gpu-{index}",
            "attributes": {"type": {"string": "gpu"}, "productName": {"string": "NVIDIA L4"}},
            "capacity": {"memory": {"value": "23034Mi"}},
        }
        for index in range(devices)
    ]
    pool = {"name": node_name, "generation": generation, "resourceSliceCount": count}
    spec = {"driver": DRIVER, "nodeName": node_name, "pool": pool, "devices": listed}
    record = project_slice({"metadata": {"name": name}, "spec": spec})
    assert record is not None
    return record


def claim(name: str, pool: str, *devices: str, owner: str | None = None) -> ClaimRecord:
    labels: dict[str, str] = {}
    if owner:
        labels = {"app.kubernetes.io/managed-by": "vllm-operator", "app.kubernetes.io/instance": owner}
    results = [{"driver": DRIVER, "pool": pool, "device": device} for device in devices]
    record = project_claim(
        {
            "metadata": {"name": name, "namespace": "team", "uid": name, "labels": labels},
            "status": {"allocation": {"devices": {"results": results}}},
        }
    )
    assert record is not None
    return record


def free(inventory: Inventory) -> dict[str, int]:
    return {offer.node.name: offer.free for offer in inventory.offers}


def test_pods_take_from_their_own_node_only() -> None:
    inventory = Inventory.build([node("a"), node("b")], [pod("p", "a", 3), pod("q", None, 5), pod("r", "gone", 1)])
    assert free(inventory) == {"a": 5, "b": 8}


def test_free_is_never_below_zero() -> None:
    assert free(Inventory.build([node("a", 2)], [pod("p", "a", 5)])) == {"a": 0}


def test_cpu_memory_and_pod_slots_are_counted_beside_gpus() -> None:
    (offer,) = Inventory.build([node("a")], [pod("p", "a", 1), pod("q", "a", 0)]).offers
    assert (offer.free_cpu_millis, offer.free_memory_bytes, offer.free_pods) == (62_000, 510 * 2**30, 108)


def test_crediting_gives_an_owners_pods_back_and_nobody_elses() -> None:
    pods = [pod("p", "a", 3, owner="llama"), pod("q", "a", 2), pod("r", "b", 1, owner="other")]
    inventory = Inventory.build([node("a"), node("b")], pods)
    assert free(inventory) == {"a": 3, "b": 7}
    assert free(inventory.crediting("team/llama")) == {"a": 6, "b": 7}
    assert inventory.crediting("team/unknown") is inventory


def test_crediting_an_overcommitted_node_gives_back_only_what_is_really_left() -> None:
    inventory = Inventory.build([node("a", 4)], [pod("p", "a", 2, owner="llama"), pod("q", "a", 4)])
    assert free(inventory.crediting("team/llama")) == {"a": 0}


def test_crediting_gives_claims_back() -> None:
    state = ClusterState()
    state.upsert_node(node("a", 0))
    state.upsert_slice(resource_slice("s", "a", 4))
    state.upsert_claim(claim("c", "a", "s-gpu-0", "s-gpu-1", owner="llama"))
    state.upsert_claim(claim("d", "a", "s-gpu-2"))
    assert free(state.snapshot()) == {"a": 1}
    assert free(state.snapshot().crediting("team/llama")) == {"a": 3}


def test_a_claim_may_come_before_its_slice_and_its_node() -> None:
    state = ClusterState()
    state.upsert_claim(claim("c", "a", "s-gpu-0"))
    state.upsert_slice(resource_slice("s", "a", 2))
    state.upsert_node(node("a", 0))
    assert free(state.snapshot()) == {"a": 1}


def test_a_pool_counts_once_all_slices_of_its_newest_generation_are_there() -> None:
    state = ClusterState()
    state.upsert_node(node("a", 0))
    state.upsert_slice(resource_slice("old", "a", 8))
    assert free(state.snapshot()) == {"a": 8}
    state.upsert_slice(resource_slice("new-1", "a", 2, generation=2, count=2))
    assert free(state.snapshot()) == {}
    assert "has 1 of the 2 slices of generation 2" in state.snapshot().warnings[0]
    state.upsert_slice(resource_slice("new-2", "a", 1, generation=2, count=2))
    assert free(state.snapshot()) == {"a": 3}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (lambda state: state.upsert_node(node("a")), False),
        (lambda state: state.upsert_node(node("a", zone="b")), True),
        (lambda state: state.upsert_node(node("cpu", 0, zone="b")), False),
        (lambda state: state.remove_node("cpu"), False),
        (lambda state: state.remove_node("unknown"), False),
        (lambda state: state.remove_node("a"), True),
        (lambda state: state.upsert_pod(pod("p", "a", 3)), False),
        (lambda state: state.upsert_pod(pod("p", "a", 4)), True),
        (lambda state: state.upsert_pod(pod("new", "cpu", 0)), False),
        (lambda state: state.remove_pod("p"), True),
        (lambda state: state.remove_pod("unknown"), False),
        (lambda state: state.replace_nodes([node("cpu", 0), node("a")]), False),
        (lambda state: state.replace_nodes([node("cpu", 0)]), True),
        (lambda state: state.replace_pods([pod("p", "a", 3)]), False),
        (lambda state: state.replace_pods([]), True),
    ],
    ids=[
        "the same node",
        "a label of a GPU node",
        "a label of a node without GPUs",
        "a node without GPUs goes",
        "an unknown node goes",
        "a GPU node goes",
        "the same pod",
        "a pod takes more",
        "a pod on a node without GPUs",
        "a pod goes",
        "an unknown pod goes",
        "the same nodes listed",
        "a node missing from the list",
        "the same pods listed",
        "a pod missing from the list",
    ],
)
def test_only_what_a_plan_reads_is_a_change(change: Callable[[ClusterState], bool], changed: bool) -> None:
    state = ClusterState()
    state.replace_nodes([node("a"), node("cpu", 0)])
    state.replace_pods([pod("p", "a", 3)])
    before = state.snapshot()
    assert change(state) is changed
    assert (state.snapshot() is before) is not changed
    assert (state.snapshot().version > before.version) is changed


def test_a_snapshot_stays_as_it_was() -> None:
    state = ClusterState()
    state.replace_nodes([node("a")])
    before = state.snapshot()
    state.upsert_pod(pod("p", "a", 3))
    assert (free(before), free(state.snapshot())) == ({"a": 8}, {"a": 5})


NAMES = st.sampled_from(["a", "b", "c"])
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("node"), NAMES, st.integers(0, 8)),
        st.tuples(st.just("pod"), st.sampled_from(["p", "q", "r"]), st.one_of(st.none(), NAMES), st.integers(0, 4)),
        st.tuples(st.just("slice"), st.sampled_from(["s", "t"]), NAMES, st.integers(0, 3)),
        st.tuples(st.just("claim"), st.sampled_from(["x", "y"]), NAMES, st.sampled_from(["s-gpu-0", "t-gpu-1"])),
        st.tuples(
            st.sampled_from(["remove node", "remove pod", "remove slice", "remove claim"]),
            st.sampled_from("abcpqrstxy"),
        ),
    ),
    max_size=40,
)


def record_of(event: tuple[Any, ...]) -> Any:
    kind, name, *rest = event
    match kind:
        case "node":
            return node(name, *rest)
        case "pod":
            return pod(name, *rest, owner="llama" if name == "p" else None)
        case "slice":
            return resource_slice(name, *rest)
    return claim(name, *rest, owner="llama" if name == "x" else None)


def apply(state: ClusterState, event: tuple[Any, ...]) -> bool:
    removes, _, kind = event[0].rpartition(" ")
    method = getattr(state, f"{removes or 'upsert'}_{kind}")
    changed = method(event[1] if removes else record_of(event))
    assert isinstance(changed, bool)
    return changed


def content(inventory: Inventory) -> tuple[object, ...]:
    credited = inventory.crediting("team/llama")
    return inventory.offers, inventory.nodes, inventory.holdings, inventory.warnings, credited.offers


def left_of(events: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The events that are still true in the end."""
    left: dict[tuple[str, str], tuple[Any, ...]] = {}
    for event in events:
        kind, name = event[:2]
        if kind.startswith("remove "):
            left.pop((kind.removeprefix("remove "), name), None)
        else:
            left[kind, name] = event
    return list(left.values())


def rebuilt(events: list[tuple[Any, ...]], shuffle: random.Random) -> Inventory:
    """What a fresh state says when it is told only what is left in the end, in another order."""
    remaining = left_of(events)
    shuffle.shuffle(remaining)
    fresh = ClusterState()
    for event in remaining:
        apply(fresh, event)
    return fresh.snapshot()


@settings(max_examples=150, deadline=None)
@given(EVENTS, st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(events: list[tuple[Any, ...]], shuffle: random.Random) -> None:
    state = ClusterState()
    for event in events:
        before = content(state.snapshot())
        changed = apply(state, event)
        assert changed or content(state.snapshot()) == before
    assert content(rebuilt(events, shuffle)) == content(state.snapshot())


@settings(max_examples=100, deadline=None)
@given(EVENTS, EVENTS, st.randoms(use_true_random=False))
def test_authoritative_lists_bring_any_state_to_what_they_say(
    before: list[tuple[Any, ...]], listed: list[tuple[Any, ...]], shuffle: random.Random
) -> None:
    state = ClusterState()
    for event in before:
        apply(state, event)
    for kind in shuffle.sample(["node", "pod", "slice", "claim"], 4):
        records = [record_of(event) for event in left_of(listed) if event[0] == kind]
        earlier = content(state.snapshot())
        changed = getattr(state, f"replace_{kind}s")(records)
        assert changed or content(state.snapshot()) == earlier
        assert not getattr(state, f"replace_{kind}s")(records)
    assert content(state.snapshot()) == content(rebuilt(listed, shuffle))


@settings(max_examples=100, deadline=None)
@given(EVENTS, NAMES)
def test_removing_a_node_never_adds_capacity(events: list[tuple[Any, ...]], gone: str) -> None:
    state = ClusterState()
    for event in events:
        apply(state, event)
    before = {(o.node.name, o.gpu_class): o for o in state.snapshot().offers}
    state.remove_node(gone)
    for offer in state.snapshot().offers:
        assert offer.node.name != gone
        assert before[offer.node.name, offer.gpu_class] == offer


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_free_lies_between_zero_and_allocatable(events: list[tuple[Any, ...]]) -> None:
    state = ClusterState()
    for event in events:
        apply(state, event)
    for offer in state.snapshot().offers:
        assert 0 <= offer.free <= offer.allocatable <= offer.capacity


def test_inventories_of_equal_objects_are_equal_in_content() -> None:
    nodes, pods = [node("a"), node("b")], [pod("p", "a", 2)]
    one = Inventory.build(nodes, pods)
    other = Inventory.build(reversed(nodes), pods)
    assert replace(one, version=0) == replace(other, version=0)
