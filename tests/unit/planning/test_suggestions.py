"""The ways out: which changes are offered, how they are ranked, and that each was found to fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.planning.fleets import LLAMA_8B, LLAMA_70B, facts, inventory, node, pod, spec

from vllm_operator.planning.decide import plan

if TYPE_CHECKING:
    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.planning.plan import Suggestion

ONE_L4 = inventory(node("L4", "l4", 1))
EIGHT_H100 = inventory(node("H100", "h100", 8))


def suggested(model: str, cluster: Inventory, **sections: Any) -> tuple[Suggestion, ...]:
    return plan(spec(model, **sections), facts(model), cluster).suggestions


def patches(suggestions: tuple[Suggestion, ...]) -> list[Any]:
    return [suggestion.patch["spec"] for suggestion in suggestions]


def test_what_fits_needs_no_suggestion() -> None:
    assert suggested(LLAMA_8B, EIGHT_H100, workload={"contextLength": 8192}) == ()


def test_a_shorter_context_and_less_concurrency_come_before_quality() -> None:
    found = suggested(LLAMA_8B, ONE_L4, workload={"contextLength": 32768, "concurrency": 2})
    kinds = [set(patch) for patch in patches(found)]
    assert kinds[0] == {"workload"}
    first_with_engine = next((number for number, kind in enumerate(kinds) if "engine" in kind), len(kinds))
    assert all("engine" in kind for kind in kinds[first_with_engine:])


def test_an_fp8_cache_is_offered_and_says_that_it_costs_quality() -> None:
    found = suggested(LLAMA_8B, ONE_L4, workload={"contextLength": 32768})
    by_patch = {str(suggestion.patch["spec"]): suggestion for suggestion in found}
    cache = by_patch["{'engine': {'kvCacheDtype': 'fp8'}}"]
    assert "lowers quality" in cache.effect
    assert "GiB per GPU; holds 1 sequence of 32,768 tokens" in cache.effect


def test_quantized_weights_are_offered_where_the_gpu_computes_in_fp8() -> None:
    found = suggested("Qwen/Qwen2.5-14B-Instruct", ONE_L4, workload={"contextLength": 8192})
    assert {"engine": {"quantization": "fp8"}} in patches(found)
    found = suggested("Qwen/Qwen2.5-14B-Instruct", inventory(node("A10G", "a", 1)), workload={"contextLength": 8192})
    assert {"engine": {"quantization": "fp8"}} not in patches(found)


def test_a_quantized_checkpoint_is_not_quantized_again() -> None:
    found = suggested("RedHatAI/Llama-3.3-70B-Instruct-fp8-dynamic", ONE_L4, workload={"contextLength": 8192})
    assert not any("quantization" in patch.get("engine", {}) for patch in patches(found))


def test_more_gpus_are_offered_in_place_of_a_size_that_is_too_small() -> None:
    found = suggested(
        LLAMA_70B,
        EIGHT_H100,
        workload={"contextLength": 8192, "concurrency": 8},
        engine={"tensorParallelSize": 1, "pipelineParallelSize": 1},
    )
    assert found[0].patch == {"spec": {"engine": {"tensorParallelSize": 4, "pipelineParallelSize": None}}}
    assert found[0].summary == "use 4 GPUs per replica (tensorParallelSize 4)"


def test_only_the_nearest_sufficient_size_is_offered() -> None:
    found = suggested(
        LLAMA_8B,
        EIGHT_H100,
        workload={"contextLength": 131072, "concurrency": 8},
        engine={"tensorParallelSize": 1, "pipelineParallelSize": 1},
    )
    sizes = [
        patch["engine"]["tensorParallelSize"]
        for patch in patches(found)
        if "tensorParallelSize" in patch.get("engine", {})
    ]
    assert len(sizes) == 1


def test_fewer_replicas_are_offered_when_not_all_have_room() -> None:
    found = suggested(LLAMA_8B, inventory(node("H100", "a", 2)), replicas=4, workload={"contextLength": 8192})
    assert found[0].patch == {"spec": {"replicas": 2}}


def test_a_taint_is_offered_to_be_tolerated_beside_the_tolerations_that_are_there() -> None:
    taint = {"key": "team", "value": "x", "effect": "NoSchedule"}
    mine = {"tolerations": [{"key": "other", "operator": "Exists"}]}
    found = suggested(LLAMA_8B, inventory(node("H100", "a", 1, taints=[taint])), gpu=mine)
    assert found[0].patch == {
        "spec": {
            "gpu": {
                "tolerations": [
                    {"key": "other", "operator": "Exists"},
                    {"key": "team", "operator": "Exists", "effect": "NoSchedule"},
                ]
            }
        }
    }


def test_a_node_that_is_not_ready_is_not_offered_to_be_tolerated() -> None:
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}
    assert suggested(LLAMA_8B, inventory(node("H100", "a", 1, taints=[taint], ready=False))) == ()


def test_a_full_cluster_is_offered_what_starts_now() -> None:
    full = inventory(node("H100", "a", 1), pod("a", 1), node("L4", "l4", 1))
    found = suggested(LLAMA_8B, full, workload={"contextLength": 32768})
    assert found
    assert all("NVIDIA-L4" in suggestion.effect for suggestion in found)


def test_there_are_never_more_than_five() -> None:
    found = suggested(LLAMA_8B, ONE_L4, workload={"contextLength": 131072, "concurrency": 64})
    assert 0 < len(found) <= 5
