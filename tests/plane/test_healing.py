"""Repeated crashes for want of memory lead to a workload that starts, where its user allows that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import condition
from tests.plane.events import events, events_told
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_pod_failures import KV_WORDS
from tests.plane.test_verdicts import is_ready

from vllm_operator.runtime.adjusting import ADJUSTMENT_ANNOTATION

if TYPE_CHECKING:
    from tests.controlplane.client import Api

pytestmark = pytest.mark.control_plane

WORKLOAD = {"contextLength": 6144, "concurrency": 8}
"""A length that no other argument has."""
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory."


def failing(namespace: str, words: str, argument: str | None, auto_adjust: str, **sections: Any) -> dict[str, Any]:
    """A model whose pods crash with these words, as long as they have the argument."""
    marks = {"fail": "CrashLoopBackOff", "last-words": words, **({"fails-with": argument} if argument else {})}
    annotations = {f"vllm-operator.test/{name}": value for name, value in marks.items()}
    template = {"metadata": {"annotations": annotations}}
    policy = {"autoAdjust": auto_adjust}
    asked = {"workload": WORKLOAD, "gpu": {"products": ["*H100*"]}, **sections}
    return deployment(namespace, model=LLAMA_8B, policy=policy, podTemplate=template, **asked)


def argument_of(api: Api, namespace: str, flag: str) -> str:
    args = api.get("Deployment", "model", namespace)["spec"]["template"]["spec"]["containers"][0]["args"]
    value: str = args[args.index(flag) + 1]
    return value


def test_a_context_that_vllm_has_no_room_for_is_lowered_to_what_it_has_room_for(api: Api, namespace: str) -> None:
    api.create(failing(namespace, KV_WORDS, "6144", "Safe"))

    healed = api.wait("VLLMDeployment", "model", is_ready, namespace)

    assert healed["spec"]["workload"]["contextLength"] == 6144, "the spec is the user's"
    assert healed["status"]["plan"]["maxModelLen"] == 4096
    assert argument_of(api, namespace, "--max-model-len") == "4096"
    (warning,) = (text for text in healed["status"]["warnings"] if text.startswith("autoAdjust lowered"))
    assert "the context to 4,096 (step 1 of at most 3)" in warning
    assert "1.00 GiB of KV cache for 8192 tokens" in warning
    (event,) = events_told(api, namespace, "AutoAdjusted")
    assert event["note"] == warning
    rendered = api.get("Deployment", "model", namespace)
    assert rendered["metadata"]["generation"] == 2
    assert json.loads(rendered["metadata"]["annotations"][ADJUSTMENT_ANNOTATION])["contextLength"] == 4096

    # What the user says next counts anew.
    api.patch("VLLMDeployment", "model", {"spec": {"workload": {"contextLength": 2048}}}, namespace)
    again = api.wait(
        "VLLMDeployment", "model", lambda obj: is_ready(obj) and obj["status"]["observedGeneration"] == 2, namespace
    )
    assert again["status"]["plan"]["maxModelLen"] == 2048
    assert not [text for text in again["status"].get("warnings", []) if "autoAdjust" in text]
    assert ADJUSTMENT_ANNOTATION not in api.get("Deployment", "model", namespace)["metadata"]["annotations"]


def test_a_gpu_that_runs_out_of_memory_gets_half_as_many_sequences(api: Api, namespace: str) -> None:
    api.create(failing(namespace, OUT_OF_MEMORY, "64", "Safe", engine={"maxNumSeqs": 64}))

    healed = api.wait("VLLMDeployment", "model", is_ready, namespace)

    assert healed["status"]["plan"]["maxNumSeqs"] == 32
    assert argument_of(api, namespace, "--max-num-seqs") == "32"


def test_what_goes_on_crashing_is_left_to_its_user_after_three_steps(api: Api, namespace: str) -> None:
    api.create(failing(namespace, OUT_OF_MEMORY, None, "Safe", engine={"maxNumSeqs": 64}))

    api.wait("Deployment", "model", lambda obj: obj["metadata"]["generation"] == 4, namespace)
    told = api.wait(
        "VLLMDeployment",
        "model",
        lambda obj: (
            condition(obj, "Degraded").get("reason") == "OutOfGpuMemory"
            and any("step 3 of at most 3" in text for text in obj["status"].get("warnings", []))
        ),
        namespace,
    )
    assert told["status"]["plan"]["maxNumSeqs"] == 8
    assert len(events_told(api, namespace, "AutoAdjusted", 3)) == 3
    # A later look at the crashing pods, which the Service's change brings, lowers nothing more.
    api.patch("VLLMDeployment", "model", {"spec": {"service": {"port": 8001}}}, namespace)
    api.wait("VLLMDeployment", "model", lambda obj: obj["status"]["observedGeneration"] == 2, namespace)
    assert argument_of(api, namespace, "--max-num-seqs") == "8"


def test_without_leave_nothing_is_lowered(api: Api, namespace: str) -> None:
    api.create(failing(namespace, KV_WORDS, "6144", "Never"))

    told = api.wait(
        "VLLMDeployment",
        "model",
        lambda obj: condition(obj, "Degraded").get("reason") == "KVCacheTooSmall",
        namespace,
    )

    assert "set spec.workload.contextLength to at most 4096" in condition(told, "Degraded")["message"]
    assert argument_of(api, namespace, "--max-model-len") == "6144"
    assert not events(api, namespace, "AutoAdjusted")

    # Leave that is given later is used.
    api.patch("VLLMDeployment", "model", {"spec": {"policy": {"autoAdjust": "Safe"}}}, namespace)
    api.wait("VLLMDeployment", "model", is_ready, namespace)
    assert argument_of(api, namespace, "--max-model-len") == "4096"
