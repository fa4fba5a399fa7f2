"""The planner end to end: what it decides for a model, a workload and a cluster, and how it says so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.planning.fleets import (
    LLAMA_8B,
    LLAMA_70B,
    LLAMA_405B,
    facts,
    inventory,
    mixed_fleet,
    node,
    pod,
    spec,
)

from vllm_operator.cluster import labels as label
from vllm_operator.planning.decide import compare, plan
from vllm_operator.planning.plan import OomRisk, Plan, Verdict

if TYPE_CHECKING:
    from vllm_operator.cluster.inventory import Inventory

EIGHT_H100 = inventory(node("H100", "h100-0", 8))
EIGHT_8K = {"workload": {"contextLength": 8192, "concurrency": 8}}


def planned(model: str, cluster: Inventory, **sections: Any) -> Plan:
    return plan(spec(model, **sections), facts(model), cluster)


def flag(found: Plan, name: str) -> str | None:
    """The value of a flag in the plan's arguments; "" for a switch, None when it is not there."""
    if f"--{name}" not in found.args:
        return None
    following = found.args[found.args.index(f"--{name}") + 1 :]
    return following[0] if following and not following[0].startswith("--") else ""


class TestVerdict:
    def test_8b_fits_on_an_h100_with_low_risk(self) -> None:
        found = planned(LLAMA_8B, EIGHT_H100, **EIGHT_8K)
        assert (found.verdict, found.oom_risk) == (Verdict.FITS, OomRisk.LOW)
        assert found.placement is not None
        assert found.placement.gpus_per_replica == 1
        assert found.placement.nodes == ("h100-0",)

    def test_70b_is_given_tensor_parallelism_on_one_node(self) -> None:
        found = planned(LLAMA_70B, EIGHT_H100, **EIGHT_8K)
        assert found.verdict is Verdict.FITS
        assert found.tensor_parallel_size == 4
        assert flag(found, "tensor-parallel-size") == "4"

    def test_gpus_of_two_nodes_are_never_added_up(self) -> None:
        two_nodes = inventory(node("H100", "a", 2), node("H100", "b", 2))
        assert planned(LLAMA_70B, two_nodes, **EIGHT_8K).verdict is Verdict.DOES_NOT_FIT
        one_node = inventory(node("H100", "a", 4))
        assert planned(LLAMA_70B, one_node, **EIGHT_8K).verdict is Verdict.FITS

    def test_405b_does_not_fit_and_the_message_has_need_offer_and_way_out(self) -> None:
        found = planned(LLAMA_405B, mixed_fleet(), workload={"contextLength": 8192})
        assert found.verdict is Verdict.UNKNOWN  # four GPUs of unknown size might hold it
        labelled = inventory(node("H100", "h100-0", 8), node("A100-40", "a100-0", 4))
        found = planned(LLAMA_405B, labelled, workload={"contextLength": 8192})
        assert found.verdict is Verdict.DOES_NOT_FIT
        assert found.message.startswith("spec.model: needs ")
        assert "GiB per GPU (weights " in found.message
        assert "the best class, NVIDIA-H100-80GB-HBM3, offers 71." in found.message
        assert "To make it fit: (1)" in found.message

    def test_room_that_other_pods_hold_makes_it_fit_once_freed(self) -> None:
        full = inventory(node("H100", "h100-0", 1), pod("h100-0", 1))
        found = planned(LLAMA_8B, full, **EIGHT_8K)
        assert found.verdict is Verdict.FITS_IF_FREED
        assert "room for 0 of 1 replica now" in found.message

    def test_replicas_beyond_the_room_are_counted_in_a_warning(self) -> None:
        found = planned(LLAMA_8B, inventory(node("H100", "a", 2)), replicas=5, **EIGHT_8K)
        assert found.verdict is Verdict.FITS_IF_FREED
        assert "2 of 5 replicas can start now, 2 at most" in found.warnings

    def test_replicas_are_packed_node_by_node(self) -> None:
        three_each = inventory(node("H100", "a", 6), node("H100", "b", 6))
        found = planned(LLAMA_70B, three_each, replicas=2, **EIGHT_8K)
        assert found.verdict is Verdict.FITS
        in_fours = {"tensorParallelSize": 4, "pipelineParallelSize": 1}
        found = planned(LLAMA_70B, three_each, replicas=3, engine=in_fours, **EIGHT_8K)
        assert found.verdict is Verdict.FITS_IF_FREED

    def test_pipeline_stages_are_taken_where_only_they_find_room_for_all_replicas_now(self) -> None:
        three_each = inventory(node("H100", "a", 6), node("H100", "b", 6))
        found = planned(LLAMA_70B, three_each, replicas=3, **EIGHT_8K)
        assert found.verdict is Verdict.FITS
        assert (found.tensor_parallel_size, found.pipeline_parallel_size) == (1, 3)

    def test_a_cordoned_node_counts_as_capacity_that_may_come_back(self) -> None:
        found = planned(LLAMA_8B, inventory(node("H100", "a", 8, cordoned=True)), **EIGHT_8K)
        assert found.verdict is Verdict.FITS_IF_FREED

    def test_gpus_of_unknown_memory_are_never_a_refusal(self) -> None:
        found = planned(LLAMA_8B, inventory(node(None, "plain", 4)), **EIGHT_8K)
        assert found.verdict is Verdict.UNKNOWN
        assert "nvidia.com/gpu.memory" in found.message
        assert flag(found, "max-model-len") == "8192"

    def test_an_unknown_model_is_never_a_refusal(self) -> None:
        found = plan(spec("org/new"), None, EIGHT_H100)
        assert found.verdict is Verdict.UNKNOWN
        assert "spec.model.configRef" in found.message
        assert flag(found, "max-model-len") == "auto"
        assert found.renderable

    def test_a_parameter_count_alone_can_refuse_but_not_promise(self) -> None:
        giant = spec("org/new", model={"parametersBillions": 1000})
        found = plan(giant, None, EIGHT_H100)
        assert found.verdict is Verdict.DOES_NOT_FIT
        assert "1862.6 GiB (1000 billion parameters)" in found.message
        found = plan(spec("org/new", model={"parametersBillions": 70}), None, EIGHT_H100)
        assert (found.verdict, found.tensor_parallel_size) == (Verdict.UNKNOWN, 4)

    def test_a_cluster_without_gpus_is_refused_with_what_it_has(self) -> None:
        amd = inventory(node(None, "amd", 8, resource="amd.com/gpu"))
        found = planned(LLAMA_8B, amd, gpu={"resourceName": "nvidia.com/gpu"})
        assert found.verdict is Verdict.DOES_NOT_FIT
        assert found.message.startswith("spec.gpu: no node offers nvidia.com/gpu; the cluster has amd.com/gpu.")

    def test_hardware_is_named_where_no_change_of_the_spec_helps(self) -> None:
        found = planned("deepseek-ai/DeepSeek-R1", EIGHT_H100, workload={"contextLength": 8192})
        assert found.suggestions == ()
        assert "; a node with 8 × H200 would hold it." in found.message

    def test_a_context_beyond_the_model_is_refused_whatever_the_memory(self) -> None:
        found = planned(LLAMA_8B, EIGHT_H100, workload={"contextLength": 200_000})
        assert found.verdict is Verdict.DOES_NOT_FIT
        assert found.message.startswith("spec.workload.contextLength: 200,000 tokens are asked for")
        assert found.suggestions[0].patch == {"spec": {"workload": {"contextLength": 131072}}}


class TestPlacement:
    def test_the_smallest_class_with_low_risk_is_taken(self) -> None:
        found = planned(LLAMA_8B, mixed_fleet(), **EIGHT_8K)
        assert found.placement is not None
        assert found.placement.gpu_class.product == "NVIDIA-A100-SXM4-40GB"

    def test_an_allow_list_of_globs_is_respected(self) -> None:
        found = planned(LLAMA_8B, mixed_fleet(), gpu={"products": ["*h100*"]}, **EIGHT_8K)
        assert found.placement is not None
        assert found.placement.gpu_class.product == "NVIDIA-H100-80GB-HBM3"

    def test_affinity_names_labels_that_only_the_chosen_class_has(self) -> None:
        found = planned(LLAMA_8B, mixed_fleet(), **EIGHT_8K)
        assert found.placement is not None
        terms = found.placement.node_selector_terms
        assert terms == ({"nvidia.com/gpu.product": ("NVIDIA-A100-SXM4-40GB",)},)

    def test_affinity_falls_back_to_node_names_where_labels_do_not_tell(self) -> None:
        by_annotation = node(None, "known", 1)
        by_annotation["metadata"]["labels"]["nvidia.com/gpu.memory"] = "81559"
        cluster = inventory(by_annotation, node(None, "unknown", 1))
        found = planned(LLAMA_8B, cluster, **EIGHT_8K)
        assert found.placement is not None
        assert found.placement.node_selector_terms == ({"nvidia.com/gpu.memory": ("81559",)},)

    @pytest.mark.parametrize(
        ("minimum", "verdict"),
        [
            pytest.param("80Gi", Verdict.FITS, id="an-80-gb-card-is-80Gi"),
            pytest.param("90Gi", Verdict.DOES_NOT_FIT, id="but-not-90Gi"),
        ],
    )
    def test_min_memory_means_the_figure_on_the_box(self, minimum: str, verdict: Verdict) -> None:
        assert planned(LLAMA_8B, EIGHT_H100, gpu={"minMemory": minimum}, **EIGHT_8K).verdict is verdict

    def test_a_node_selector_and_taints_are_respected(self) -> None:
        taint = {"key": "team", "value": "research", "effect": "NoSchedule"}
        cluster = inventory(node("H100", "a", 8, taints=[taint], labels={"pool": "x"}))
        assert planned(LLAMA_8B, cluster, **EIGHT_8K).verdict is Verdict.DOES_NOT_FIT
        tolerant = {"tolerations": [{"key": "team", "operator": "Equal", "value": "research"}]}
        assert planned(LLAMA_8B, cluster, gpu=tolerant, **EIGHT_8K).verdict is Verdict.FITS
        elsewhere = {**tolerant, "nodeSelector": {"pool": "y"}}
        assert planned(LLAMA_8B, cluster, gpu=elsewhere, **EIGHT_8K).verdict is Verdict.DOES_NOT_FIT

    def test_the_taint_named_like_the_gpu_resource_is_tolerated(self) -> None:
        taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
        assert planned(LLAMA_8B, inventory(node("H100", "a", 8, taints=[taint])), **EIGHT_8K).verdict is Verdict.FITS

    def test_another_pod_elsewhere_does_not_move_the_plan(self) -> None:
        nodes = [node("H100", name, 8) for name in ("a", "b", "c")]
        before = planned(LLAMA_70B, inventory(*nodes), **EIGHT_8K)
        after = planned(LLAMA_70B, inventory(*nodes, pod("b", 3)), **EIGHT_8K)
        assert (before.hash, before.args, before.placement) == (after.hash, after.args, after.placement)

    def test_a_time_sliced_gpu_must_be_asked_for_and_is_shared_fairly(self) -> None:
        labels = {"nvidia.com/gpu.sharing-strategy": "time-slicing", "nvidia.com/gpu.replicas": "4"}
        cluster = inventory(node("H100", "a", 4, labels=labels))
        refused = planned(LLAMA_8B, cluster, workload={"contextLength": 4096})
        assert refused.verdict is Verdict.DOES_NOT_FIT
        assert "spec.gpu.sharing" in refused.message
        found = planned(LLAMA_8B, cluster, workload={"contextLength": 4096}, gpu={"sharing": "AllowShared"})
        assert (found.verdict, found.oom_risk) == (Verdict.DOES_NOT_FIT, OomRisk.HIGH)
        small = planned("Qwen/Qwen3-4B", cluster, workload={"contextLength": 4096}, gpu={"sharing": "AllowShared"})
        assert (small.verdict, small.oom_risk) == (Verdict.FITS, OomRisk.HIGH)
        assert (flag(small, "gpu-memory-utilization"), small.tensor_parallel_size) == ("0.22", 1)


class TestFlags:
    def test_each_flag_has_a_reason(self) -> None:
        found = planned(LLAMA_70B, EIGHT_H100, **EIGHT_8K)
        flags = [token.removeprefix("--") for token in found.args if token.startswith("--")]
        assert flags == [reason.flag for reason in found.reasons]
        assert all(reason.why for reason in found.reasons)

    def test_the_resolved_commit_is_pinned(self) -> None:
        found = planned(LLAMA_8B, EIGHT_H100)
        assert found.revision == facts(LLAMA_8B).source.revision  # type: ignore[union-attr]
        assert flag(found, "revision") == found.revision

    def test_an_open_context_is_the_models_own_where_it_fits(self) -> None:
        assert planned(LLAMA_8B, EIGHT_H100).max_model_len == 131072

    def test_an_open_context_is_the_longest_that_fits_elsewhere(self) -> None:
        found = planned(LLAMA_8B, inventory(node("L4", "l4", 1)))
        assert found.verdict is Verdict.FITS
        assert found.max_model_len is not None
        assert found.max_model_len % 256 == 0
        same_batch = {"maxNumSeqs": found.max_num_seqs, "maxNumBatchedTokens": found.max_num_batched_tokens}
        longer = {"workload": {"contextLength": found.max_model_len + 256}, "engine": same_batch}
        assert planned(LLAMA_8B, inventory(node("L4", "l4", 1)), **longer).verdict is Verdict.DOES_NOT_FIT

    def test_more_gpus_are_taken_rather_than_a_context_too_short_to_be_useful(self) -> None:
        found = planned("Qwen/Qwen2.5-32B-Instruct", inventory(node("L40S", "a", 4)))
        assert found.tensor_parallel_size > 1
        assert found.max_model_len is not None
        assert found.max_model_len >= 8192

    def test_no_bfloat16_on_a_t4(self) -> None:
        found = planned("Qwen/Qwen2.5-3B-Instruct", inventory(node("T4", "t4", 1)), workload={"contextLength": 4096})
        assert found.verdict is Verdict.FITS
        assert flag(found, "dtype") == "float16"

    def test_trust_remote_code_is_set_only_by_the_user(self) -> None:
        model = "Qwen/Qwen3-8B"
        assert flag(planned(model, EIGHT_H100), "trust-remote-code") is None
        trusting = spec(model, model={"trustRemoteCode": True})
        assert flag(plan(trusting, facts(model), EIGHT_H100), "trust-remote-code") == ""

    def test_a_model_with_code_of_its_own_says_so(self) -> None:
        brings_code = replace(facts(LLAMA_8B), needs_remote_code=True)
        found = plan(spec(LLAMA_8B), brings_code, EIGHT_H100)
        assert any("trustRemoteCode" in warning for warning in found.warnings)

    @pytest.mark.parametrize(
        ("model", "tool_parser", "reasoning_parser"),
        [
            ("Qwen/Qwen3-8B", "hermes", "qwen3"),
            ("Qwen/Qwen3-30B-A3B-Instruct-2507", "hermes", None),
            ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3_coder", None),
            ("Qwen/Qwen3.5-35B-A3B", "qwen3_coder", "qwen3"),
            ("openai/gpt-oss-20b", "openai", "openai_gptoss"),
            ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", None, "deepseek_r1"),
            (LLAMA_8B, "llama3_json", None),
            ("meta-llama/Llama-3.1-8B", None, None),
            ("mistralai/Mistral-Small-24B-Instruct-2501", "mistral", None),
            ("ibm-granite/granite-4.0-h-tiny", "granite4", None),
            ("BAAI/bge-m3", None, None),
        ],
    )
    def test_parsers_follow_the_family(self, model: str, tool_parser: str | None, reasoning_parser: str | None) -> None:
        found = planned(model, EIGHT_H100)
        assert flag(found, "tool-call-parser") == tool_parser
        assert flag(found, "reasoning-parser") == reasoning_parser
        assert (flag(found, "enable-auto-tool-choice") == "") is (tool_parser is not None)

    def test_parsers_that_vllms_image_cannot_import_are_left_to_an_image_that_can(self) -> None:
        command = replace(facts(LLAMA_8B), model_type="cohere2_moe")
        stock = plan(spec(LLAMA_8B), command, EIGHT_H100)
        assert flag(stock, "tool-call-parser") is flag(stock, "reasoning-parser") is None
        assert any("cohere_melody" in warning for warning in stock.warnings)
        built = plan(spec(LLAMA_8B, engine={"image": "registry.example/vllm-melody:1"}), command, EIGHT_H100)
        assert flag(built, "tool-call-parser") == flag(built, "reasoning-parser") == "cohere_command4"
        assert not any("cohere_melody" in warning for warning in built.warnings)
        unwanted = plan(spec(LLAMA_8B, engine={"toolCalling": "Off", "reasoning": "Off"}), command, EIGHT_H100)
        assert not any("cohere_melody" in warning for warning in unwanted.warnings)

    def test_parsers_can_be_switched_off_or_named(self) -> None:
        off = planned("Qwen/Qwen3-8B", EIGHT_H100, engine={"toolCalling": "Off", "reasoning": "deepseek_r1"})
        assert flag(off, "tool-call-parser") is None
        assert flag(off, "reasoning-parser") == "deepseek_r1"

    @pytest.mark.parametrize(
        ("mode", "sequences", "tokens"),
        [("Balanced", "256", "8192"), ("Throughput", "1024", "16384"), ("Latency", "32", "2048")],
    )
    def test_modes_differ_in_the_batch(self, mode: str, sequences: str, tokens: str) -> None:
        found = planned(LLAMA_8B, EIGHT_H100, workload={"contextLength": 8192, "batchingMode": mode})
        assert flag(found, "max-num-seqs") == sequences
        assert flag(found, "max-num-batched-tokens") == tokens

    def test_a_smaller_batch_is_taken_before_it_is_refused(self) -> None:
        workload = {"contextLength": 14336, "batchingMode": "Throughput"}
        found = planned("Qwen/Qwen3-8B", inventory(node("L4", "l4", 1)), workload=workload)
        assert found.verdict is Verdict.FITS
        assert flag(found, "max-num-seqs") == "16"

    def test_what_the_user_fixed_stays(self) -> None:
        engine = {
            "tensorParallelSize": 2,
            "maxNumSeqs": 17,
            "maxNumBatchedTokens": 3000,
            "kvCacheDtype": "fp8",
            "enforceEager": True,
            "version": "v0.32.0",
            "extraArgs": ["--enable-prefix-caching"],
        }
        found = planned(LLAMA_8B, EIGHT_H100, engine=engine, **EIGHT_8K)
        assert flag(found, "tensor-parallel-size") == "2"
        assert flag(found, "max-num-seqs") == "17"
        assert flag(found, "max-num-batched-tokens") == "3000"
        assert flag(found, "kv-cache-dtype") == "fp8"
        assert flag(found, "enforce-eager") == ""
        assert found.args[-1] == "--enable-prefix-caching"
        assert found.image == "vllm/vllm-openai:v0.32.0"

    def test_lora_and_speculative_decoding_are_rendered(self) -> None:
        engine = {
            "lora": {"maxLoras": 2, "maxRank": 32, "adapters": [{"name": "sql", "uri": "org/sql"}]},
            "speculative": {"method": "ngram", "tokens": 3},
        }
        found = planned(LLAMA_8B, EIGHT_H100, engine=engine, **EIGHT_8K)
        assert flag(found, "lora-modules") == "sql=org/sql"
        assert flag(found, "max-lora-rank") == "32"
        assert flag(found, "speculative-config") == '{"method": "ngram", "num_speculative_tokens": 3}'

    @pytest.mark.parametrize(
        ("uri", "argument", "load_format"),
        [
            ("hf://meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", None),
            ("pvc://models/llama/8b", "/models/llama/8b", None),
            ("s3://bucket/llama/8b", "s3://bucket/llama/8b", "runai_streamer"),
            ("oci://registry.example/llama:8b", "/models", None),
        ],
    )
    def test_the_model_argument_follows_the_address(self, uri: str, argument: str, load_format: str | None) -> None:
        found = plan(spec(uri, **EIGHT_8K), facts(LLAMA_8B), EIGHT_H100)
        assert found.args[0] == found.model == argument
        assert flag(found, "load-format") == load_format


class TestAutoAdjust:
    def test_never_refuses_what_does_not_fit(self) -> None:
        found = planned(LLAMA_8B, inventory(node("L4", "l4", 1)), **EIGHT_8K)
        assert found.verdict is Verdict.DOES_NOT_FIT

    def test_safe_lowers_concurrency_first_and_says_so(self) -> None:
        found = planned(LLAMA_8B, inventory(node("L4", "l4", 1)), policy={"autoAdjust": "Safe"}, **EIGHT_8K)
        assert (found.verdict, found.max_model_len) == (Verdict.FITS, 8192)
        assert found.concurrency < 8
        assert any(warning.startswith("autoAdjust lowered concurrency from 8") for warning in found.warnings)

    def test_safe_shortens_the_context_when_not_even_one_sequence_fits(self) -> None:
        workload = {"contextLength": 65536}
        found = planned(LLAMA_8B, inventory(node("L4", "l4", 1)), policy={"autoAdjust": "Safe"}, workload=workload)
        assert found.verdict is Verdict.FITS
        assert found.max_model_len is not None
        assert 2048 <= found.max_model_len < 65536

    def test_safe_prefers_more_gpus_to_less_work(self) -> None:
        found = planned(LLAMA_70B, EIGHT_H100, policy={"autoAdjust": "Safe"}, **EIGHT_8K)
        assert (found.tensor_parallel_size, found.concurrency) == (4, 8)


class TestHash:
    def test_a_change_of_replicas_keeps_the_pods(self) -> None:
        one = planned(LLAMA_8B, EIGHT_H100, **EIGHT_8K)
        assert one.hash == planned(LLAMA_8B, EIGHT_H100, replicas=3, **EIGHT_8K).hash

    @pytest.mark.parametrize(
        "section",
        [
            pytest.param({"workload": {"contextLength": 4096}}, id="context"),
            pytest.param({"engine": {"env": [{"name": "A", "value": "1"}]}}, id="env"),
            pytest.param({"engine": {"image": "vllm/other:v1"}}, id="image"),
            pytest.param({"podTemplate": {"spec": {"priorityClassName": "x"}}}, id="pod-template"),
            pytest.param({"gpu": {"tolerations": [{"key": "x"}]}}, id="tolerations"),
        ],
    )
    def test_what_is_rendered_changes_it(self, section: dict[str, Any]) -> None:
        base: dict[str, Any] = dict(EIGHT_8K)
        assert planned(LLAMA_8B, EIGHT_H100, **base).hash != planned(LLAMA_8B, EIGHT_H100, **{**base, **section}).hash

    def test_planning_twice_gives_the_same_plan(self) -> None:
        assert planned(LLAMA_70B, mixed_fleet(), **EIGHT_8K) == planned(LLAMA_70B, mixed_fleet(), **EIGHT_8K)


def test_the_comparison_has_each_class_once_best_first() -> None:
    found = compare(spec(LLAMA_8B, **EIGHT_8K), facts(LLAMA_8B), mixed_fleet())
    products = [alternative.gpu_class.product for alternative in found]
    assert len(products) == len(set(products))
    assert products[0] == "NVIDIA-A100-SXM4-40GB"


def test_a_gpu_of_unknown_product_gets_nothing_where_products_are_listed() -> None:
    unlabelled = node("H100", "plain-0", 8, labels={"nvidia.com/gpu.memory": "81559"})
    del unlabelled["metadata"]["labels"]["nvidia.com/gpu.product"]
    found = plan(spec(LLAMA_8B, gpu={"products": ["*H100*"]}), facts(LLAMA_8B), inventory(unlabelled))
    assert found.verdict is Verdict.UNKNOWN
    assert not found.renderable
    assert found.placement is None
    assert "plain-0" in found.message
    assert "nvidia.com/gpu.product" in found.message


def test_a_known_product_on_the_list_is_taken_beside_one_that_is_unknown() -> None:
    cluster = inventory(node(None, "plain-0", 8), node("H100", "h100-0", 8))
    found = plan(spec(LLAMA_8B, gpu={"products": ["*H100*"]}), facts(LLAMA_8B), cluster)
    assert found.verdict is Verdict.FITS
    assert found.placement is not None
    assert found.placement.nodes == ("h100-0",)


def test_an_fp8_cache_is_refused_where_no_kernel_reads_it() -> None:
    asked = spec(LLAMA_8B, engine={"kvCacheDtype": "fp8"})
    found = plan(asked, facts(LLAMA_8B), inventory(node("A100-80", "a100-0", 8)))
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert "compute capability 8.9" in found.message
    assert plan(asked, facts(LLAMA_8B), inventory(node("L4", "l4-0", 8))).verdict is Verdict.FITS


def test_vllm_is_given_no_more_than_other_processes_leave_free() -> None:
    busy = node("H100", "h100-0", 1, labels={label.MEMORY_IN_USE: str(81559 // 4)})
    found = plan(spec(LLAMA_8B), facts(LLAMA_8B), inventory(busy))
    assert found.verdict is Verdict.FITS
    assert found.gpu_memory_utilization == 0.74
    (why,) = (reason.why for reason in found.reasons if reason.flag == "gpu-memory-utilization")
    assert "processes outside Kubernetes hold 20.0 GiB" in why


class TestCopiesOfAttention:
    """Data parallelism, where tensor parallelism would make every GPU hold every sequence."""

    H200 = (node("H200", "h200-0", 8),)

    def test_an_mla_model_with_many_sequences_is_given_copies(self) -> None:
        found = planned(
            "deepseek-ai/DeepSeek-R1",
            inventory(*self.H200),
            workload={"contextLength": 8192, "concurrency": 128},
        )
        assert found.verdict is Verdict.FITS
        assert (found.tensor_parallel_size, found.data_parallel_size, found.expert_parallel) == (2, 4, True)
        assert found.placement is not None
        assert found.placement.gpus_per_replica == 8
        assert found.feasibility is not None
        assert found.feasibility.max_concurrency_at_context >= 128
        (why,) = (reason.why for reason in found.reasons if reason.flag == "data-parallel-size")
        assert why.startswith("4 copies")

    def test_few_sequences_keep_tensor_parallelism(self) -> None:
        found = planned(
            "deepseek-ai/DeepSeek-R1", inventory(*self.H200), workload={"contextLength": 8192, "concurrency": 16}
        )
        assert (found.tensor_parallel_size, found.data_parallel_size) == (8, 1)

    def test_a_size_that_is_stated_is_kept(self) -> None:
        found = planned(
            "deepseek-ai/DeepSeek-R1",
            inventory(*self.H200),
            workload={"contextLength": 8192, "concurrency": 128},
            engine={"tensorParallelSize": 8},
        )
        assert found.verdict is Verdict.DOES_NOT_FIT

    def test_stated_copies_share_the_sequences(self) -> None:
        def of_copies(number: int) -> Plan:
            return planned(
                "meta-llama/Llama-3.1-8B-Instruct",
                inventory(node("H100", "n0", 8)),
                workload={"contextLength": 8192, "concurrency": 32},
                engine={"dataParallelSize": number, "tensorParallelSize": 1},
            )

        one, four = of_copies(1), of_copies(4)
        assert one.memory is not None
        assert four.memory is not None
        assert four.memory.kv_cache_needed_bytes < one.memory.kv_cache_needed_bytes / 3
        assert four.feasibility is not None
        assert four.feasibility.max_concurrency_at_context % 4 == 0
