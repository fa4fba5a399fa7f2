"""What was asked before is not planned again, and what differs is never taken for the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.runtime.test_reconciler import KEY, node, our_pod, resource

from vllm_operator.api.v1alpha1 import parse_deployment
from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.cluster.state import ClusterState
from vllm_operator.models.catalogue import lookup
from vllm_operator.planning.decide import plan
from vllm_operator.planning.defaults import Capabilities, OperatorDefaults
from vllm_operator.runtime.planner import MOST_PLANS, Planner

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMDeploymentSpec

FACTS = lookup("Qwen/Qwen2.5-7B-Instruct")
DEFAULTS = OperatorDefaults()


def spec(**sections: Any) -> VLLMDeploymentSpec:
    return parse_deployment(resource(**sections)).spec


@pytest.fixture
def cluster() -> ClusterState:
    state = ClusterState()
    state.replace_nodes([project_node(node("h100-0"))])
    return state


def test_equal_specs_are_planned_once(cluster: ClusterState) -> None:
    planner = Planner(DEFAULTS)
    first, *others = (planner.plan(key, spec(), FACTS, cluster.snapshot()) for key in ("team/a", "team/b", "team/a"))
    assert first == plan(spec(), FACTS, cluster.snapshot(), defaults=DEFAULTS)
    assert all(other is first for other in others)


def test_another_spec_other_facts_or_another_inventory_is_another_question(cluster: ClusterState) -> None:
    planner = Planner(DEFAULTS)
    assert FACTS is not None
    first = planner.plan(KEY, spec(), FACTS, cluster.snapshot())
    longer = planner.plan(KEY, spec(workload={"contextLength": 16384}), FACTS, cluster.snapshot())
    assert longer.max_model_len == 16384
    assert planner.plan(KEY, spec(), None, cluster.snapshot()) != first
    assert planner.plan(KEY, spec(), replace(FACTS), cluster.snapshot()) is not first
    cluster.replace_nodes([])
    assert planner.plan(KEY, spec(), FACTS, cluster.snapshot()).placement is None


def test_what_its_own_pods_hold_is_asked_for_each_time(cluster: ClusterState) -> None:
    pod = our_pod("h100-0")
    pod["spec"]["containers"] = [{"name": "engine", "resources": {"limits": {"nvidia.com/gpu": "8"}}}]
    record = project_pod(pod)
    assert record is not None
    cluster.upsert_pod(record)
    planner = Planner(DEFAULTS)

    own, other = (planner.plan(key, spec(), FACTS, cluster.snapshot()) for key in (KEY, "team/other"))
    assert (own.verdict, other.verdict) == ("Fits", "FitsIfFreed")
    assert planner.plan(KEY, spec(), FACTS, cluster.snapshot()).verdict == "Fits"


def test_what_the_cluster_can_do_is_asked_for_each_time() -> None:
    state, can = ClusterState(), [Capabilities()]
    state.replace_nodes([project_node(node("h100-0")), project_node(node("h100-1"))])
    planner, huge = Planner(DEFAULTS, lambda: can[-1]), lookup("meta-llama/Llama-3.1-405B-Instruct")

    without = planner.plan(KEY, spec(), huge, state.snapshot())
    can.append(Capabilities(leader_worker_sets=True))
    installed = planner.plan(KEY, spec(), huge, state.snapshot())

    assert (without.verdict, installed.verdict) == ("DoesNotFit", "Fits")
    assert installed.placement is not None
    assert installed.placement.nodes_per_replica == 2


def test_only_so_many_plans_are_kept(cluster: ClusterState) -> None:
    planner = Planner(DEFAULTS)
    first = planner.plan(KEY, spec(replicas=1), FACTS, cluster.snapshot())
    for replicas in range(2, MOST_PLANS + 1):
        newest = planner.plan(KEY, spec(replicas=replicas), FACTS, cluster.snapshot())
    assert planner.plan(KEY, spec(replicas=1), FACTS, cluster.snapshot()) is first
    planner.plan(KEY, spec(replicas=MOST_PLANS + 1), FACTS, cluster.snapshot())
    assert planner.plan(KEY, spec(replicas=1), FACTS, cluster.snapshot()) is not first
    assert planner.plan(KEY, spec(replicas=MOST_PLANS), FACTS, cluster.snapshot()) is newest
