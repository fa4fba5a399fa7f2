"""Which changes of the cluster make a plan worth asking for again."""

from __future__ import annotations

import pytest
from tests.unit.planning.fleets import LLAMA_8B, LLAMA_70B, alters, facts, inventory, node, pod, spec

from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.cluster.state import ClusterState
from vllm_operator.planning.decide import plan
from vllm_operator.planning.fanout import Change
from vllm_operator.planning.plan import Plan, Verdict

NODES = [node("H100", "a", 8), node("H100", "b", 8), node("L4", "c", 1)]
CLUSTER = inventory(*NODES)


def llama_70b() -> Plan:
    return plan(spec(LLAMA_70B, workload={"contextLength": 8192}), facts(LLAMA_70B), CLUSTER)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([*NODES], id="nothing"),
        pytest.param([*reversed(NODES)], id="another-order"),
        pytest.param([*NODES, node(None, "cpu-only", 0)], id="a-node-without-gpus"),
        pytest.param([*NODES, node(None, "amd", 8, resource="amd.com/gpu")], id="another-makers-gpus"),
    ],
)
def test_what_no_search_looks_at_leaves_a_plan_alone(after: list[dict[str, object]]) -> None:
    assert not alters(llama_70b(), CLUSTER, inventory(*after))


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(NODES[:1], id="fewer-nodes"),
        pytest.param([*NODES, pod("a", 8), pod("b", 8)], id="no-room-left"),
        pytest.param([*NODES, node("H200", "d", 8)], id="a-new-class"),
        pytest.param([*NODES, node("H100", "d", 8)], id="another-node-of-the-class"),
        pytest.param([node("H100", "a", 8, cordoned=True), *NODES[1:]], id="cordoned"),
    ],
)
def test_what_could_alter_a_plan_affects_it(after: list[dict[str, object]]) -> None:
    found = llama_70b()
    changed = alters(found, CLUSTER, inventory(*after))
    replanned = plan(spec(LLAMA_70B, workload={"contextLength": 8192}), facts(LLAMA_70B), inventory(*after))
    assert changed or (replanned.verdict, replanned.placement) == (found.verdict, found.placement)


def test_a_pod_on_one_of_two_free_nodes_affects_nobody_else() -> None:
    found = plan(spec(LLAMA_8B, workload={"contextLength": 8192}), facts(LLAMA_8B), CLUSTER)
    assert found.verdict is Verdict.FITS
    assert not alters(found, inventory(*NODES, pod("a", 1)), inventory(*NODES, pod("a", 2)))


def test_an_offer_that_nothing_happened_to_is_no_part_of_a_change() -> None:
    state = ClusterState()
    state.replace_nodes([project_node(obj) for obj in NODES])
    old = state.snapshot()
    held = project_pod(pod("a", 1))
    assert held is not None
    state.upsert_pod(held)
    change = Change.between(old, state.snapshot())
    assert [(offer.node.name, offer.free) for offer in change.gone] == [("a", 8)]
    assert [(offer.node.name, offer.free) for offer in change.come] == [("a", 7)]
    assert change.rebuilt == frozenset()
