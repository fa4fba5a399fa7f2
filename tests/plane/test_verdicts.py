"""What a user sees: fits, is spread over GPUs, is refused with a fix that is accepted, is admitted with a warning."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from tests.controlplane.client import Refused, condition
from tests.plane.models import LLAMA_8B, LLAMA_70B, LLAMA_405B, QWEN_8B, deployment

if TYPE_CHECKING:
    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

WORKLOAD = {"contextLength": 8192, "concurrency": 8}


def is_ready(obj: dict) -> bool:
    return condition(obj, "Ready").get("status") == "True"


def test_an_8b_model_fits_on_an_h100_and_becomes_ready(scene: Scene, api: Api, namespace: str) -> None:
    api.create(deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, gpu={"products": ["*H100*"]}))

    waited = scene.kubectl("wait", "--for=condition=Ready", "vd/model", f"--namespace={namespace}", "--timeout=30s")

    assert "condition met" in waited.stdout
    status = api.get("VLLMDeployment", "model", namespace)["status"]
    assert (status["verdict"], status["oomRisk"]) == ("Fits", "Low")
    assert status["plan"]["gpuProduct"] == "NVIDIA-H100-80GB-HBM3"
    assert status["feasibility"]["fits"] is True
    assert status["readyReplicas"] == 1
    rendered = api.get("Deployment", "model", namespace)
    assert rendered["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert api.get("Service", "model", namespace)["spec"]["ports"][0]["port"] == 8000


def test_a_70b_model_is_spread_over_gpus_of_one_node_and_scheduled_there(api: Api, namespace: str) -> None:
    api.create(deployment(namespace, model=LLAMA_70B, workload=WORKLOAD))

    ready = api.wait("VLLMDeployment", "model", is_ready, namespace)

    plan = ready["status"]["plan"]
    assert plan["tensorParallelSize"] > 1
    assert plan["gpusPerReplica"] <= 8
    (pod,) = api.list("Pod", namespace)
    assert pod["spec"]["nodeName"] == "gpu-h100-0"
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == str(plan["gpusPerReplica"])


def test_a_405b_model_is_refused_with_the_arithmetic_and_its_fix_is_accepted(api: Api, namespace: str) -> None:
    wanted = deployment(namespace, model=LLAMA_405B, workload=WORKLOAD)

    with pytest.raises(Refused) as refused:
        api.create(wanted)

    message = refused.value.message
    assert refused.value.status == 422 or "denied the request" in message
    assert re.search(r"needs [0-9.]+ GiB per GPU", message)
    assert "NVIDIA-H100-80GB-HBM3" in message
    assert "To make it fit" in message
    assert api.list("VLLMDeployment", namespace) == []

    api.create({**wanted, "spec": {**wanted["spec"], "policy": {"admission": "Warn"}}})
    judged = api.wait("VLLMDeployment", "model", lambda obj: (obj.get("status") or {}).get("suggestions"), namespace)
    patch = json.loads(judged["status"]["suggestions"][0]["patch"])
    api.delete("VLLMDeployment", "model", namespace)
    api.wait_gone("VLLMDeployment", "model", namespace)
    fixed = {**wanted, "spec": {**wanted["spec"], **patch["spec"]}}
    api.create(fixed)
    assert api.wait("VLLMDeployment", "model", is_ready, namespace)["status"]["verdict"] == "Fits"


def test_what_does_not_fit_is_withheld_when_admission_only_warns(api: Api, namespace: str) -> None:
    api.create(deployment(namespace, model=LLAMA_405B, workload=WORKLOAD, policy={"admission": "Warn"}))

    assert re.search(r"needs [0-9.]+ GiB per GPU .* offers [0-9.]+ GiB", " ".join(api.warnings))
    judged = api.wait(
        "VLLMDeployment", "model", lambda obj: condition(obj, "Feasible").get("status") == "False", namespace
    )
    assert condition(judged, "Feasible")["reason"] == "DoesNotFit"
    assert condition(judged, "Ready")["status"] == "False"
    assert judged["status"]["oomRisk"] == "High"
    assert api.find("Deployment", "model", namespace) is None


def test_what_does_not_fit_is_rendered_when_admission_is_off(api: Api, namespace: str) -> None:
    api.create(deployment(namespace, model=LLAMA_405B, workload=WORKLOAD, policy={"admission": "Off"}))

    judged = api.wait(
        "VLLMDeployment", "model", lambda obj: condition(obj, "Rendered").get("status") == "True", namespace
    )
    assert condition(judged, "Feasible")["status"] == "False"
    assert api.wait("Deployment", "model", bool, namespace)["spec"]["replicas"] == 1


def test_a_close_fit_is_admitted_with_a_warning(api: Api, namespace: str) -> None:
    api.create(
        deployment(
            namespace,
            model=QWEN_8B,
            workload={"contextLength": 8192, "concurrency": 1},
            gpu={"products": ["*-L4"]},
            policy={"headroomGb": 0},
        )
    )

    assert any("risk" in warning for warning in api.warnings)
    ready = api.wait("VLLMDeployment", "model", is_ready, namespace)
    assert ready["status"]["oomRisk"] == "Medium"


def test_what_holds_gpus_already_is_told_from_what_never_fits(api: Api, namespace: str) -> None:
    for name in ("first", "second", "third"):
        api.create(deployment(namespace, name=name, model=LLAMA_70B, workload=WORKLOAD, gpu={"products": ["*H100*"]}))
        if name != "third":
            api.wait("VLLMDeployment", name, is_ready, namespace)

    assert any("once GPUs are free" in warning for warning in api.warnings)
    judged = api.wait(
        "VLLMDeployment", "third", lambda obj: condition(obj, "Feasible").get("reason") == "FitsIfFreed", namespace
    )
    assert judged["status"]["verdict"] == "FitsIfFreed"
