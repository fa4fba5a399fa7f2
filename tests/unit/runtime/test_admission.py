"""What `kubectl apply` is told, from memory alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.fake_kube import FakeKube
from tests.unit.runtime.test_reconciler import node, our_pod, resource

from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.cluster.state import ClusterState
from vllm_operator.models.source import FactsSource
from vllm_operator.planning.defaults import OperatorDefaults
from vllm_operator.runtime.admission import Answer, Gatekeeper
from vllm_operator.runtime.facts import FactsBook
from vllm_operator.runtime.hub import NoHub
from vllm_operator.runtime.planner import Planner
from vllm_operator.runtime.quotas import Quotas

T4 = node("t4", memory_mib=15360, gpus=1, product="Tesla-T4")
H100 = node("h100")


def gatekeeper(
    *nodes: dict[str, Any],
    pods: tuple[dict[str, Any], ...] = (),
    quota: dict[str, Any] | None = None,
    synced: bool = True,
) -> Gatekeeper:
    cluster = ClusterState()
    quotas = Quotas(cluster)
    if quota is not None:
        quotas.upsert(quota)
    cluster.replace_nodes([project_node(obj) for obj in nodes])
    cluster.replace_pods([record for obj in pods if (record := project_pod(obj)) is not None])
    facts = FactsBook(FakeKube(), FactsSource(NoHub()), changed=lambda key: None)
    return Gatekeeper(
        snapshot=cluster.snapshot,
        facts=facts,
        planner=Planner(OperatorDefaults()),
        calibrate=lambda plan, spec: plan,
        quota_warnings=quotas.warnings,
        synced=lambda: synced,
    )


def review(keeper: Gatekeeper, new: dict[str, Any], old: dict[str, Any] | None = None) -> Answer:
    return keeper.review(new, old, dry_run=True)


def test_what_fits_is_admitted() -> None:
    assert review(gatekeeper(H100), resource()).refusal is None


def test_what_does_not_fit_is_refused_with_the_arithmetic() -> None:
    refusal = review(gatekeeper(T4), resource()).refusal
    assert refusal is not None
    assert "GiB" in refusal


def test_with_warn_the_same_is_a_warning() -> None:
    answer = review(gatekeeper(T4), resource(policy={"admission": "Warn"}))
    assert answer.refusal is None
    assert "GiB" in answer.warnings[0]


def test_with_off_nothing_is_said() -> None:
    assert review(gatekeeper(T4), resource(policy={"admission": "Off"})) == Answer()


def test_an_update_that_leaves_the_spec_alone_passes_whatever_the_cluster_has() -> None:
    labelled = resource(generation=1)
    labelled["metadata"]["labels"] = {"team": "a"}
    assert review(gatekeeper(T4), labelled, resource()) == Answer()


def test_an_unknown_model_is_admitted_with_a_warning() -> None:
    answer = review(gatekeeper(H100), resource(model={"uri": "nobody/nothing"}))
    assert answer.refusal is None
    assert "nobody/nothing" in answer.warnings[0]


def test_before_the_cluster_is_known_nothing_is_refused() -> None:
    answer = review(gatekeeper(T4, synced=False), resource())
    assert answer.refusal is None
    assert answer.warnings


def test_its_own_pods_are_credited_to_it() -> None:
    small = node("h100", gpus=1)
    pod = our_pod("h100")
    pod["spec"]["containers"] = [{"name": "engine", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
    others = {**pod, "metadata": {**pod["metadata"], "labels": {}}}
    assert review(gatekeeper(small, pods=(pod,)), resource()).warnings == review(gatekeeper(small), resource()).warnings
    assert any(
        "in use" in text or "free" in text for text in review(gatekeeper(small, pods=(others,)), resource()).warnings
    )


def test_a_spec_that_is_no_spec_is_refused_by_field() -> None:
    refusal = review(gatekeeper(H100), resource(workload={"contextLength": -1})).refusal
    assert refusal is not None
    assert "contextLength" in refusal


def test_a_quota_of_limits_that_the_pods_do_not_state_is_a_warning() -> None:
    quota = {"metadata": {"namespace": "team", "name": "memory"}, "spec": {"hard": {"limits.memory": "64Gi"}}}
    answer = review(gatekeeper(H100, quota=quota), resource())
    assert answer.refusal is None
    assert any("ResourceQuota 'memory' of namespace team counts limits.memory" in text for text in answer.warnings)


def test_a_quota_that_will_refuse_the_pods_is_a_warning() -> None:
    quota = {"metadata": {"namespace": "team", "name": "gpus"}, "spec": {"hard": {"requests.nvidia.com/gpu": "0"}}}
    answer = review(gatekeeper(H100, quota=quota), resource())
    assert answer.refusal is None
    assert any("ResourceQuota 'gpus' of namespace team allows 0" in warning for warning in answer.warnings)


def test_a_fault_of_ours_admits_with_a_warning() -> None:
    def broken() -> Any:
        raise RuntimeError("a fault")

    facts = FactsBook(FakeKube(), FactsSource(NoHub()), changed=lambda key: None)
    keeper = Gatekeeper(
        snapshot=broken,
        facts=facts,
        planner=Planner(OperatorDefaults()),
        calibrate=lambda plan, spec: plan,
        quota_warnings=Quotas(ClusterState()).warnings,
        synced=lambda: True,
    )
    answer = review(keeper, resource())
    assert answer.refusal is None
    assert len(answer.warnings) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
SECTIONS = ("model", "workload", "engine", "gpu", "policy", "replicas", "scaling", "cache", "podTemplate")


@given(st.dictionaries(st.sampled_from(SECTIONS), json_values), json_values)
def test_no_input_makes_it_fail(sections: dict[str, Any], metadata: Any) -> None:
    new = {**resource(**sections), "metadata": metadata}
    answer = review(gatekeeper(H100, T4), new)
    assert isinstance(answer, Answer)


@pytest.mark.parametrize("number", [0, 1, 1000])
def test_warnings_are_few_and_short(number: int) -> None:
    nodes = [node(f"n{index}", memory_mib=0) for index in range(number)]
    answer = review(gatekeeper(*nodes), resource(policy={"admission": "Warn"}))
    assert sum(map(len, answer.warnings)) <= 4096
