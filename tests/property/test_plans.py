"""What holds for every plan, over generated specs and clusters."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.planning.fleets import CARDS, alters, facts, inventory, node, pod, spec

from vllm_operator.planning.decide import Capabilities, plan
from vllm_operator.planning.flags import flags_of
from vllm_operator.planning.plan import Plan, Verdict

HOLDS = {Verdict.FITS, Verdict.FITS_IF_FREED, Verdict.FITS_WHEN_SCALED}
BEST_FIRST = [
    Verdict.FITS,
    Verdict.FITS_IF_FREED,
    Verdict.FITS_WHEN_SCALED,
    Verdict.UNKNOWN,
    Verdict.DOES_NOT_FIT,
]

MODELS = (
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen2.5-14B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct-AWQ",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-235B-A22B-FP8",
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.3-70B-Instruct",
    "deepseek-ai/DeepSeek-V2-Lite",
    "deepseek-ai/DeepSeek-R1",
    "google/gemma-3-12b-it",
    "openai/gpt-oss-20b",
    "BAAI/bge-m3",
)

models = st.sampled_from(MODELS)


@st.composite
def nodes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One to five nodes, some of unknown memory, some cordoned, some partly used."""
    objects: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 5))):
        card = draw(st.sampled_from([*CARDS, None]))
        gpus = draw(st.sampled_from([1, 2, 4, 8]))
        objects.append(node(card, f"n{number}", gpus, cordoned=draw(st.integers(0, 9)) == 0))
        used = draw(st.integers(0, gpus))
        if used:
            objects.append(pod(f"n{number}", used))
    return objects


@st.composite
def alike_nodes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Two to six nodes of one card, of which a replica may take several."""
    card, gpus = draw(st.sampled_from(["L4", "A100-40", "A100-80", "H100"])), draw(st.sampled_from([1, 2, 4, 8]))
    objects: list[dict[str, Any]] = []
    for number in range(draw(st.integers(2, 6))):
        objects.append(node(card, f"n{number}", gpus, cordoned=draw(st.integers(0, 9)) == 0))
        used = draw(st.integers(0, gpus)) if draw(st.integers(0, 3)) == 0 else 0
        if used:
            objects.append(pod(f"n{number}", used))
    return objects


clusters = st.one_of(nodes(), alike_nodes())


@st.composite
def sections(draw: st.DrawFn) -> dict[str, Any]:
    """A spec without its model, every knob sometimes set."""

    def maybe(name: str, values: st.SearchStrategy[Any]) -> dict[str, Any]:
        return {name: draw(values)} if draw(st.integers(0, 3)) == 0 else {}

    workload = {
        **(maybe("contextLength", st.integers(256, 40_000)) or {"contextLength": 4096}),
        **maybe("concurrency", st.integers(1, 300)),
        **maybe("batchingMode", st.sampled_from(["Throughput", "Latency", "Balanced"])),
    }
    if draw(st.booleans()):
        del workload["contextLength"]
    return {
        "workload": workload,
        "engine": {
            **maybe("tensorParallelSize", st.sampled_from([1, 2, 4, 8])),
            **maybe("pipelineParallelSize", st.sampled_from([1, 2, 3, 4, 8])),
            **maybe("maxNumSeqs", st.integers(1, 512)),
            **maybe("enforceEager", st.booleans()),
            **maybe("kvCacheDtype", st.sampled_from(["auto", "fp8"])),
        },
        "gpu": {**maybe("products", st.sampled_from([["*H100*"], ["*L4*"], ["*A100*", "*T4*"]]))},
        "policy": {
            **maybe("gpuMemoryUtilization", st.sampled_from([0.5, 0.8, 0.95])),
            **maybe("headroomGb", st.sampled_from([0, 2.5])),
            **maybe("autoAdjust", st.sampled_from(["Safe", "Never"])),
        },
        **maybe("replicas", st.integers(1, 4)),
        **maybe("cache", st.sampled_from([{"type": "PersistentVolumeClaim", "size": "1Ti"}])),
    }


several_nodes = st.booleans().map(lambda there: Capabilities(leader_worker_sets=there))
NONE = Capabilities()


def judged(
    model: str, wishes: dict[str, Any], objects: list[dict[str, Any]], capabilities: Capabilities = NONE
) -> Plan:
    return plan(spec(model, **wishes), facts(model), inventory(*objects), capabilities=capabilities)


thorough = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(can=several_nodes, model=models, wishes=sections(), objects=clusters)
def test_what_is_recommended_passes_the_documented_arithmetic_and_starts(
    can: Capabilities, model: str, wishes: dict[str, Any], objects: list[dict[str, Any]]
) -> None:
    found = judged(model, wishes, objects, can)
    if found.verdict in HOLDS:
        assert found.feasibility is not None
        assert found.feasibility.fits
        assert not [warning for warning in found.warnings if "predicted not to start" in warning]


@thorough
@given(can=several_nodes, model=models, wishes=sections(), objects=clusters)
def test_a_plan_never_exceeds_a_node(
    can: Capabilities, model: str, wishes: dict[str, Any], objects: list[dict[str, Any]]
) -> None:
    found = judged(model, wishes, objects, can)
    if found.verdict in HOLDS:
        assert found.placement is not None
        gpus = {
            o["metadata"]["name"]: int(o["status"]["allocatable"]["nvidia.com/gpu"])
            for o in objects
            if o["kind"] == "Node"
        }
        assert found.placement.nodes
        assert all(gpus[name] >= found.placement.gpus_per_pod for name in found.placement.nodes)
        assert len(found.placement.nodes) >= found.placement.nodes_per_replica
        assert found.placement.gpus_per_pod * found.placement.nodes_per_replica == found.placement.gpus_per_replica
        assert found.placement.gpus_per_pod % found.tensor_parallel_size == 0, "a tensor-parallel group left its node"
        size = found.tensor_parallel_size * found.pipeline_parallel_size * found.data_parallel_size
        assert found.placement.gpus_per_replica == size


@thorough
@given(can=several_nodes, model=models, wishes=sections(), objects=clusters)
def test_every_suggestion_applied_fits(
    can: Capabilities, model: str, wishes: dict[str, Any], objects: list[dict[str, Any]]
) -> None:
    found = judged(model, wishes, objects, can)
    assert len(found.suggestions) <= 5
    for suggestion in found.suggestions:
        patched = merged({"model": {"uri": model}, **wishes}, suggestion.patch["spec"])
        uri = patched.pop("model")["uri"]
        assert judged(uri, patched, objects, can).verdict is Verdict.FITS, suggestion


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, JSON merge patch."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@thorough
@given(can=several_nodes, model=models, wishes=sections(), objects=clusters, data=st.data())
def test_the_order_of_nodes_changes_nothing(
    can: Capabilities, model: str, wishes: dict[str, Any], objects: list[dict[str, Any]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(objects))
    assert judged(model, wishes, objects, can) == judged(model, wishes, shuffled, can)


@thorough
@given(can=several_nodes, model=models, wishes=sections(), objects=clusters, data=st.data())
def test_removing_a_node_never_improves_the_verdict(
    can: Capabilities, model: str, wishes: dict[str, Any], objects: list[dict[str, Any]], data: st.DataObject
) -> None:
    names = [o["metadata"]["name"] for o in objects if o["kind"] == "Node"]
    gone = data.draw(st.sampled_from(names))
    fewer = [o for o in objects if gone not in (o["metadata"]["name"], o["spec"].get("nodeName"))]
    before, after = judged(model, wishes, objects, can), judged(model, wishes, fewer, can)
    assert BEST_FIRST.index(before.verdict) <= BEST_FIRST.index(after.verdict)


@thorough
@given(can=several_nodes, model=models, wishes=sections(), objects=clusters, data=st.data())
def test_removing_a_gpu_never_improves_the_verdict(
    can: Capabilities, model: str, wishes: dict[str, Any], objects: list[dict[str, Any]], data: st.DataObject
) -> None:
    names = [o["metadata"]["name"] for o in objects if o["kind"] == "Node"]
    fewer, name = deepcopy(objects), data.draw(st.sampled_from(names))
    (poorer,) = (o for o in fewer if o["metadata"]["name"] == name)
    left = int(poorer["status"]["allocatable"]["nvidia.com/gpu"]) - 1
    poorer["status"]["allocatable"] = {**poorer["status"]["allocatable"], "nvidia.com/gpu": str(left)}
    before, after = judged(model, wishes, objects, can), judged(model, wishes, fewer, can)
    assert BEST_FIRST.index(before.verdict) <= BEST_FIRST.index(after.verdict)


@thorough
@given(model=models, wishes=sections(), objects=clusters)
def test_leaderworkersets_never_make_a_verdict_worse_and_leave_what_fits_on_one_node_there(
    model: str, wishes: dict[str, Any], objects: list[dict[str, Any]]
) -> None:
    without = judged(model, wishes, objects)
    found = judged(model, wishes, objects, Capabilities(leader_worker_sets=True))
    assert BEST_FIRST.index(found.verdict) <= BEST_FIRST.index(without.verdict)
    if without.verdict is Verdict.FITS:
        assert found.hash == without.hash


@thorough
@given(can=several_nodes, model=models, wishes=sections(), objects=clusters, more=st.integers(1, 100))
def test_more_concurrency_never_improves_the_verdict(
    can: Capabilities, model: str, wishes: dict[str, Any], objects: list[dict[str, Any]], more: int
) -> None:
    workload = wishes["workload"]
    asked = workload.get("concurrency", 1) + more
    harder = {**wishes, "workload": {**workload, "concurrency": asked}}
    before, after = judged(model, wishes, objects, can), judged(model, harder, objects, can)
    assert BEST_FIRST.index(before.verdict) <= BEST_FIRST.index(after.verdict)


@thorough
@given(can=several_nodes, model=models, wishes=sections(), objects=clusters, data=st.data())
def test_a_plan_that_is_not_affected_by_a_change_stays_the_same(
    can: Capabilities, model: str, wishes: dict[str, Any], objects: list[dict[str, Any]], data: st.DataObject
) -> None:
    changed = [o for o in objects if o["kind"] == "Node" or data.draw(st.booleans())]
    old, new = inventory(*objects), inventory(*changed)
    before = plan(spec(model, **wishes), facts(model), old, capabilities=can)
    if not alters(before, old, new):
        after = plan(spec(model, **wishes), facts(model), new, capabilities=can)
        assert (before.verdict, before.args, before.placement, before.hash) == (
            after.verdict,
            after.args,
            after.placement,
            after.hash,
        )


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    can=several_nodes, model=models, wishes=sections(), objects=nodes(), version=st.sampled_from(["0.32.0", "0.33.0"])
)
def test_every_rendered_flag_is_one_that_this_vllm_has(
    can: Capabilities, model: str, wishes: dict[str, Any], objects: list[dict[str, Any]], version: str
) -> None:
    wishes = {**wishes, "engine": {**wishes["engine"], "version": version}}
    found = judged(model, wishes, objects, can)
    assert flags_of(version).problems(found.args) == ()
