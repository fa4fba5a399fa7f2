"""Replicas over several nodes: when, on how many, in which shape, and what is said where they cannot be."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from tests.unit.planning.fleets import LLAMA_8B, LLAMA_70B, alters, facts, inventory, node, pod, spec

from vllm_operator.planning.capacity import GpuFilter
from vllm_operator.planning.decide import Capabilities, plan
from vllm_operator.planning.flags import flags_of
from vllm_operator.planning.packing import groups_of
from vllm_operator.planning.plan import Plan, Verdict
from vllm_operator.planning.sorting import capacity_for

SEVERAL = Capabilities(leader_worker_sets=True)
LLAMA_405B = "meta-llama/Llama-3.1-405B-Instruct"
DEEPSEEK = "deepseek-ai/DeepSeek-R1"
PAIR = [node("H100", "a", 8), node("H100", "b", 8)]
SHORT = {"contextLength": 8192}


def planned(model: str, nodes: list[dict[str, Any]], capabilities: Capabilities = SEVERAL, **sections: Any) -> Plan:
    wishes = {"workload": SHORT, **sections}
    return plan(spec(model, **wishes), facts(model), inventory(*nodes), capabilities=capabilities)


def shape(found: Plan) -> tuple[int, int, int]:
    """Nodes, pipeline stages, GPUs of a tensor-parallel group."""
    assert found.placement is not None
    return found.placement.nodes_per_replica, found.pipeline_parallel_size, found.tensor_parallel_size


class TestShape:
    def test_a_model_beyond_a_node_takes_the_fewest_nodes_with_a_stage_on_each(self) -> None:
        found = planned(LLAMA_405B, [*PAIR, node("H100", "c", 8)])
        assert (found.verdict, shape(found)) == (Verdict.FITS, (2, 2, 8))
        assert found.placement is not None
        assert (found.placement.gpus_per_replica, found.placement.gpus_per_pod) == (16, 8)
        assert found.placement.nodes == ("a", "b", "c")

    def test_fewer_stages_go_before_fewer_gpus(self) -> None:
        """Nine L4s would do as nine stages; twelve as three answer three times as fast."""
        nodes = [node("L4", f"n{number}", 4) for number in range(3)]
        assert shape(planned(LLAMA_70B, nodes, workload={**SHORT, "concurrency": 4})) == (3, 3, 4)

    def test_a_node_may_hold_several_stages(self) -> None:
        nodes = [node("T4", f"n{number}", 16) for number in range(2)]
        asked = {"tensorParallelSize": 8, "pipelineParallelSize": 4}
        assert shape(planned("Qwen/Qwen2.5-14B-Instruct", nodes, engine=asked)) == (2, 4, 8)

    def test_what_fits_on_one_node_stays_there(self) -> None:
        assert shape(planned(LLAMA_8B, PAIR)) == (1, 1, 1)
        assert planned(LLAMA_8B, PAIR).hash == planned(LLAMA_8B, PAIR, Capabilities()).hash

    def test_one_node_that_is_in_use_is_left_only_for_nodes_that_are_free(self) -> None:
        busy = [node("H100", "big", 8), pod("big", 8)]
        small = [node("H100", f"s{number}", 1) for number in range(4)]
        assert shape(planned(LLAMA_70B, [*busy, *small]))[0] == 2
        waits = planned(LLAMA_70B, [*busy, *small[:1]])
        assert (waits.verdict, shape(waits)[0]) == (Verdict.FITS_IF_FREED, 1)

    @pytest.mark.parametrize(
        "asked", [{"pipelineParallelSize": 2}, {"tensorParallelSize": 8, "pipelineParallelSize": 2}]
    )
    def test_stages_that_the_user_fixed_are_spread_evenly(self, asked: dict[str, int]) -> None:
        assert shape(planned(LLAMA_405B, PAIR, engine=asked)) == (2, 2, 8)

    def test_three_stages_are_not_spread_over_two_nodes(self) -> None:
        found = planned(LLAMA_405B, PAIR, engine={"tensorParallelSize": 8, "pipelineParallelSize": 3})
        assert found.verdict is Verdict.DOES_NOT_FIT

    def test_copies_that_the_user_fixed_stay_on_one_node(self) -> None:
        assert planned(LLAMA_405B, PAIR, engine={"dataParallelSize": 2}).verdict is Verdict.DOES_NOT_FIT

    def test_slices_are_never_joined_over_nodes(self) -> None:
        labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "nvidia.com/gpu.memory": "9728"}
        nodes = [node("A100-80", f"n{number}", 7, labels=labels) for number in range(8)]
        assert planned(LLAMA_8B, nodes).verdict is Verdict.DOES_NOT_FIT

    def test_nodes_of_two_classes_are_not_mixed(self) -> None:
        assert planned(LLAMA_405B, [PAIR[0], node("A100-80", "b", 8)]).verdict is Verdict.DOES_NOT_FIT


class TestRoom:
    def test_each_pod_has_a_node_of_its_own(self) -> None:
        """Sixteen free GPUs on one node hold no replica of two nodes."""
        assert planned(LLAMA_405B, [node("H100", "a", 8)]).verdict is Verdict.DOES_NOT_FIT

    @pytest.mark.parametrize(
        ("used", "replicas", "verdict"),
        [
            pytest.param(0, 2, Verdict.FITS, id="room-for-both"),
            pytest.param(1, 2, Verdict.FITS_IF_FREED, id="a-gpu-of-one-node-is-in-use"),
            pytest.param(1, 1, Verdict.FITS, id="three-nodes-are-enough-for-one"),
            pytest.param(0, 3, Verdict.FITS_IF_FREED, id="more-than-there-are"),
        ],
    )
    def test_all_replicas_find_their_nodes(self, used: int, replicas: int, verdict: Verdict) -> None:
        nodes = [node("H100", f"n{number}", 8) for number in range(4)]
        taken = [pod("n0", used)] if used else []
        whole = {"tensorParallelSize": 8}
        assert planned(LLAMA_405B, [*nodes, *taken], replicas=replicas, engine=whole).verdict is verdict

    def test_groups_are_counted_as_trying_them_all_does(self) -> None:
        for pods, held in product((2, 3), product(range(4), repeat=4)):
            assert groups_of(pods, [(each, 1) for each in held if each]) == _by_trying(pods, list(held)), (pods, held)

    def test_a_host_without_memory_for_its_share_is_no_place(self) -> None:
        poor = node("H100", "b", 8)
        poor["status"]["allocatable"] = {**poor["status"]["allocatable"], "memory": "8Gi"}
        (only,) = capacity_for(GpuFilter(), inventory(PAIR[0], poor)).classes
        assert (only.room(8, 2).allocatable, only.room(8, 2).free_of_gpus) == (0, 1)


def _by_trying(pods: int, held: list[int]) -> int:
    """Place groups one after the other on the fullest nodes, which is never worse than any other way."""
    groups = 0
    while len([left for left in held if left]) >= pods:
        for place in sorted(range(len(held)), key=lambda place: -held[place])[:pods]:
            held[place] -= 1
        groups += 1
    return groups


class TestWords:
    def test_the_install_is_the_next_step_with_the_sum_for_the_fullest_gpu(self) -> None:
        found = planned(LLAMA_405B, PAIR, Capabilities())
        assert found.verdict is Verdict.DOES_NOT_FIT
        assert (
            "2 nodes with 8 × NVIDIA-H100-80GB-HBM3 each would hold it together, as 2 pipeline stages of 8 GPUs "
            "(the fullest needs "
        ) in found.message
        assert "install LeaderWorkerSet (https://lws.sigs.k8s.io)" in found.message
        assert "add nodes" not in found.message

    def test_nodes_that_are_missing_are_counted(self) -> None:
        assert "add nodes, there is room on 1 and install Leader" in planned(DEEPSEEK, PAIR[:1], Capabilities()).message
        assert planned(DEEPSEEK, PAIR[:1]).message.endswith("add nodes, there is room on 1.")

    def test_a_workload_that_is_too_much_for_one_node_only_is_not_called_a_matter_of_nodes(self) -> None:
        found = planned(LLAMA_8B, [node("L4", "a", 1)], Capabilities(), workload={"contextLength": 65536})
        assert found.suggestions
        assert "together" not in found.message

    def test_a_claim_for_one_node_is_the_obstacle_and_its_change_is_proven(self) -> None:
        cache = {"type": "PersistentVolumeClaim", "size": "1Ti"}
        found = planned(LLAMA_405B, PAIR, cache=cache)
        assert found.verdict is Verdict.DOES_NOT_FIT
        patch = {"spec": {"cache": {"accessMode": "ReadWriteMany"}}}
        assert patch in [suggestion.patch for suggestion in found.suggestions]
        assert planned(LLAMA_405B, PAIR, cache={**cache, "accessMode": "ReadWriteMany"}).verdict is Verdict.FITS

    @pytest.mark.parametrize(
        ("engine", "words"),
        [
            pytest.param({"version": "0.9.0"}, "set spec.engine.version to 0.32.0 or newer", id="old-release"),
            pytest.param(
                {"extraArgs": ["--distributed-executor-backend", "ray"]},
                "take --distributed-executor-backend out of spec.engine.extraArgs",
                id="other-executor",
            ),
            pytest.param(
                {"extraArgs": ["--distributed-executor-backend=ray"]},
                "take --distributed-executor-backend out of spec.engine.extraArgs",
                id="other-executor-inline",
            ),
        ],
    )
    def test_an_engine_that_knows_one_node_only_is_said_to(self, engine: dict[str, Any], words: str) -> None:
        found = planned(DEEPSEEK, PAIR, engine=engine)
        assert found.verdict is Verdict.DOES_NOT_FIT
        assert words in found.message

    def test_each_flag_of_several_nodes_has_its_reason_and_gets_through_the_parser(self) -> None:
        found = planned(LLAMA_405B, PAIR)
        reasons = {reason.flag: reason.why for reason in found.reasons}
        assert {"tensor-parallel-size", "pipeline-parallel-size", "nnodes"} <= set(reasons)
        assert "no single node holds the model" in reasons["pipeline-parallel-size"]
        assert flags_of("0.33.0").problems(found.args) == ()

    def test_nothing_is_said_of_the_speed_over_a_network(self) -> None:
        assert planned(LLAMA_405B, PAIR).performance is None


class TestChanges:
    def test_a_node_that_one_group_needs_affects_its_plan(self) -> None:
        spread = planned(LLAMA_405B, PAIR)
        assert alters(spread, inventory(*PAIR), inventory(*PAIR, pod("b", 1)))
        assert alters(spread, inventory(*PAIR), inventory(PAIR[0]))

    def test_nodes_that_come_for_a_refused_model_affect_it(self) -> None:
        refused = planned(LLAMA_405B, PAIR[:1])
        assert alters(refused, inventory(PAIR[0]), inventory(*PAIR))

    def test_a_third_free_node_affects_nobody_who_runs_on_two(self) -> None:
        """Room for one replica more, for a rollout, is all that counts."""
        nodes = [node("H100", f"n{number}", 8) for number in range(6)]
        spread = planned(LLAMA_405B, nodes)
        assert not alters(spread, inventory(*nodes, pod("n5", 1)), inventory(*nodes, pod("n5", 2)))
