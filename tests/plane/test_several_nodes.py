"""A model that exceeds every node: refused with the sum, run over several nodes once the cluster can, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane import foreign_kinds
from tests.controlplane.client import Refused, condition
from tests.plane.leader_worker_sets import make_group, say
from tests.plane.machines import GPU, gpu_node
from tests.plane.models import LLAMA_8B, LLAMA_405B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

SET = "LeaderWorkerSet"
NOTICED_WITHIN_SECONDS = 60.0
"""A CRD is looked for twice a minute."""
POOL = {"pool": "pair"}


@pytest.fixture
def pair(own_nodes: Callable[..., None]) -> None:
    """Two nodes of eight GPUs, which no other test's pods run on: those ask for no such label."""
    own_nodes(*(gpu_node(f"pair-{number}", gpus=8, labels=POOL) for number in range(2)))


def _wanted(namespace: str, model: str = LLAMA_405B, **sections: Any) -> dict[str, Any]:
    return deployment(namespace, model=model, workload=WORKLOAD, gpu={"nodeSelector": POOL}, **sections)


def _is_spread(obj: dict[str, Any]) -> bool:
    return bool(((obj.get("status") or {}).get("plan") or {}).get("nodesPerReplica") == 2)


def test_without_leaderworkersets_it_is_refused_with_the_sum_and_run_once_they_are_installed(
    scene: Scene, api: Api, pair: None, namespace: str
) -> None:
    if foreign_kinds.present(api, [SET]):
        pytest.skip("the given cluster has LeaderWorkerSets")
    with pytest.raises(Refused) as refused:
        api.create(_wanted(namespace))
    assert "2 nodes with 8 × NVIDIA-H100-80GB-HBM3 each would hold it together" in refused.value.message
    assert "install LeaderWorkerSet (https://lws.sigs.k8s.io)" in refused.value.message

    api.create(_wanted(namespace, policy={"admission": "Warn"}))
    withheld = api.wait("VLLMDeployment", "model", lambda obj: bool(condition(obj, "Rendered")), namespace)
    assert withheld["status"]["verdict"] == "DoesNotFit"
    assert condition(withheld, "Rendered")["reason"] == "Withheld"
    assert "install LeaderWorkerSet" in condition(withheld, "Feasible")["message"]

    foreign_kinds.install(api, [SET])
    try:
        planned = api.wait("VLLMDeployment", "model", _is_spread, namespace, seconds=NOTICED_WITHIN_SECONDS)
        assert planned["status"]["verdict"] == "Fits"
        api.wait(SET, "model", bool, namespace)
    finally:
        foreign_kinds.remove(api, [SET])

    again = api.wait(
        "VLLMDeployment",
        "model",
        lambda obj: obj["status"]["verdict"] == "DoesNotFit",
        namespace,
        seconds=NOTICED_WITHIN_SECONDS,
    )
    assert "install LeaderWorkerSet" in condition(again, "Feasible")["message"]


def test_its_pods_land_on_the_nodes_planned_and_only_the_leader_serves(
    api: Api, pair: None, namespace: str, sets: None
) -> None:
    api.patch("Namespace", namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    api.create(_wanted(namespace))
    workload = api.wait(SET, "model", bool, namespace)
    assert api.find("Deployment", "model", namespace) is None
    assert workload["spec"]["leaderWorkerTemplate"]["size"] == 2

    names = make_group(api, workload)
    pods = [api.wait("Pod", name, lambda pod: bool(pod["spec"].get("nodeName")), namespace) for name in names]

    assert {pod["spec"]["nodeName"] for pod in pods} == {"pair-0", "pair-1"}
    assert all(pod["spec"]["containers"][0]["resources"]["limits"][GPU] == "8" for pod in pods)
    service = api.get("Service", "model", namespace)
    selector = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
    assert [pod["metadata"]["name"] for pod in api.list("Pod", namespace, labelSelector=selector)] == ["model-0"]
    say(api, workload, replicas=1, ready=0)
    loading = api.wait("VLLMDeployment", "model", lambda obj: bool(condition(obj, "Available")), namespace)
    assert not is_ready(loading)

    say(api, workload, replicas=1, ready=1)

    ready = api.wait("VLLMDeployment", "model", is_ready, namespace)
    assert ready["status"]["readyReplicas"] == 1
    plan = ready["status"]["plan"]
    assert (plan["gpusPerReplica"], plan["nodesPerReplica"]) == (16, 2)
    assert (plan["tensorParallelSize"], plan["pipelineParallelSize"]) == (8, 2)


def test_what_a_worker_dies_of_is_told_of_the_deployment(api: Api, pair: None, namespace: str, sets: None) -> None:
    words = "torch.OutOfMemoryError: CUDA out of memory."
    marks = {"fail": "CrashLoopBackOff", "fails-with": "--headless", "last-words": words}
    annotations = {f"vllm-operator.test/{name}": value for name, value in marks.items()}
    api.create(_wanted(namespace, podTemplate={"metadata": {"annotations": annotations}}))
    make_group(api, api.wait(SET, "model", bool, namespace))

    told = api.wait(
        "VLLMDeployment", "model", lambda obj: condition(obj, "Degraded").get("status") == "True", namespace
    )
    assert condition(told, "Degraded")["reason"] == "OutOfGpuMemory"
    assert "model-0-1" in condition(told, "Degraded")["message"]


def test_what_is_edited_is_restored_replicas_follow_kubectl_scale_and_an_unchanged_spec_keeps_its_pods(
    scene: Scene, api: Api, pair: None, namespace: str, sets: None
) -> None:
    api.create(_wanted(namespace))
    workload = api.wait(SET, "model", bool, namespace)
    names = make_group(api, workload)
    pods = workload["spec"]["leaderWorkerTemplate"]

    api.patch(SET, "model", {"spec": {"leaderWorkerTemplate": {"size": 3, "restartPolicy": "None"}}}, namespace)
    api.wait(SET, "model", lambda obj: obj["spec"]["leaderWorkerTemplate"] == pods, namespace)
    api.delete(SET, "model", namespace)
    made_anew = api.wait(SET, "model", lambda obj: obj["metadata"]["uid"] != workload["metadata"]["uid"], namespace)
    assert made_anew["spec"]["leaderWorkerTemplate"] == pods
    for name in names:
        api.wait_gone("Pod", name, namespace)
    make_group(api, made_anew)

    scene.kubectl("scale", "vd/model", "--replicas=2", f"--namespace={namespace}")

    scaled = api.wait(SET, "model", lambda obj: obj["spec"]["replicas"] == 2, namespace)
    assert scaled["spec"]["leaderWorkerTemplate"] == pods, "the number of replicas is not the pods' business"
    budget = api.wait("PodDisruptionBudget", "model", bool, namespace)
    assert "app.kubernetes.io/component" not in budget["spec"]["selector"]["matchLabels"], "workers count too"


def test_another_spec_takes_it_back_to_one_node_and_again_to_several(
    api: Api, pair: None, namespace: str, sets: None
) -> None:
    api.create(_wanted(namespace))
    api.wait(SET, "model", bool, namespace)

    api.patch("VLLMDeployment", "model", {"spec": {"model": {"uri": LLAMA_8B}}}, namespace)

    api.wait_gone(SET, "model", namespace)
    ready = api.wait("VLLMDeployment", "model", is_ready, namespace)
    assert ready["status"]["plan"]["nodesPerReplica"] == 1

    api.patch("VLLMDeployment", "model", {"spec": {"model": {"uri": LLAMA_405B}}}, namespace)

    api.wait_gone("Deployment", "model", namespace)
    api.wait(SET, "model", bool, namespace)
    spread = api.wait("VLLMDeployment", "model", _is_spread, namespace)
    assert not is_ready(spread), "the pods of before are not the model that is asked for"
