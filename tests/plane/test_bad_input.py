"""Bad input gets a clear error that names the field and the next step; nothing crashes, nothing is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import Refused, condition
from tests.plane.models import LLAMA_8B, config_of, deployment

if TYPE_CHECKING:
    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

BAD_SPECS = {
    "no model": ({}, "spec.model"),
    "negative concurrency": ({"model": {"uri": "a/b"}, "workload": {"concurrency": -1}}, "spec.workload.concurrency"),
    "text for a number": (
        {"model": {"uri": "a/b"}, "workload": {"contextLength": "8k"}},
        "spec.workload.contextLength",
    ),
    "unknown field": ({"model": {"uri": "a/b"}, "workload": {"contextLen": 8192}}, "spec.workload.contextLen"),
    "unknown enum value": ({"model": {"uri": "a/b"}, "policy": {"admission": "Maybe"}}, "spec.policy.admission"),
    "utilization in per cent": (
        {"model": {"uri": "a/b"}, "policy": {"gpuMemoryUtilization": 90}},
        "gpuMemoryUtilization",
    ),
    "managed flag": ({"model": {"uri": "a/b"}, "engine": {"extraArgs": ["--max-model-len=1"]}}, "spec.engine"),
    "replicas and scaling": ({"model": {"uri": "a/b"}, "replicas": 1, "scaling": {"maxReplicas": 2}}, "spec"),
    "hostile uri": ({"model": {"uri": "a/b; rm -rf /"}}, "spec.model.uri"),
}


@pytest.mark.parametrize(("spec", "field"), BAD_SPECS.values(), ids=BAD_SPECS.keys())
def test_the_api_server_refuses_and_names_the_field(api: Api, namespace: str, spec: dict[str, Any], field: str) -> None:
    wanted = {**deployment(namespace), "spec": spec}
    with pytest.raises(Refused) as refused:
        api.create(wanted)
    assert field in refused.value.message
    assert refused.value.status in (400, 422)


def test_kubectl_says_where_yaml_is_broken(scene: Scene, namespace: str) -> None:
    done = scene.kubectl("apply", f"--namespace={namespace}", "-f", "-", text="kind: [unclosed\nspec: {", check=False)
    assert done.returncode == 1
    assert "error" in done.stderr.lower()


def test_strict_validation_refuses_an_unknown_field(scene: Scene, namespace: str) -> None:
    text = json.dumps({**deployment(namespace), "spec": {"model": {"uri": LLAMA_8B}, "gpus": 2}})
    done = scene.kubectl("apply", "--validate=strict", "-f", "-", text=text, check=False)
    assert done.returncode == 1
    assert 'unknown field "spec.gpus"' in done.stderr


def test_any_text_that_the_api_server_takes_reaches_the_pods_as_it_is(api: Api, namespace: str) -> None:
    """What is applied is read as YAML, which has its own ideas of what must be escaped."""
    texts = {
        "emoji": "\U0001f600 team",
        "line": "a\x85b\u2028c",
        "mark": "\ufeffa\uffff",
        "control": "\x00\x1b\x7f\x9f",
        "words": "no: 'yes' \"\\ {{x}} # -",
    }
    annotations = {f"example.com/{name}": text for name, text in texts.items()}
    api.create(deployment(namespace, model=LLAMA_8B, podTemplate={"metadata": {"annotations": annotations}}))

    rendered = api.wait("Deployment", "model", lambda obj: True, namespace)

    assert rendered["spec"]["template"]["metadata"]["annotations"].items() >= annotations.items()


MODEL_PROBLEMS = {
    "gated without token": ({"uri": "test/gated"}, "ModelGated", "tokenSecretRef"),
    "does not exist": ({"uri": "nobody/nothing"}, "ModelNotFound", "nobody/nothing"),
    "secret missing": ({"uri": "test/gated", "tokenSecretRef": {"name": "absent"}}, "ReferenceMissing", "absent"),
    "config map missing": ({"uri": "pvc://models/x", "configRef": {"name": "absent"}}, "ReferenceMissing", "absent"),
    "storage that is not read": ({"uri": "s3://bucket/model"}, "ModelUnreadable", "configRef"),
}


@pytest.mark.parametrize(("model", "reason", "named"), MODEL_PROBLEMS.values(), ids=MODEL_PROBLEMS.keys())
def test_a_model_that_cannot_be_read_is_a_condition_with_the_next_step(
    api: Api, namespace: str, model: dict[str, Any], reason: str, named: str
) -> None:
    api.create(deployment(namespace, model=model))

    judged = api.wait(
        "VLLMDeployment", "model", lambda obj: condition(obj, "ModelResolved").get("status") == "False", namespace
    )

    resolved = condition(judged, "ModelResolved")
    assert resolved["reason"] == reason
    assert named in resolved["message"]
    assert condition(judged, "Ready")["status"] == "False"
    assert api.find("Deployment", "model", namespace) is None


def test_a_broken_config_map_is_said_and_its_repair_is_enough(api: Api, namespace: str) -> None:
    broken = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "facts", "namespace": namespace},
        "data": {"config.json": "{not json"},
    }
    api.create(broken)
    model = {"uri": "pvc://models/llama", "configRef": {"name": "facts"}}
    api.create(deployment(namespace, model=model, workload={"contextLength": 4096}))
    judged = api.wait(
        "VLLMDeployment", "model", lambda obj: condition(obj, "ModelResolved").get("status") == "False", namespace
    )
    assert "config.json" in condition(judged, "ModelResolved")["message"]

    api.patch("ConfigMap", "facts", {"data": {"config.json": config_of(LLAMA_8B).decode()}}, namespace)

    repaired = api.wait(
        "VLLMDeployment",
        "model",
        lambda obj: condition(obj, "ModelResolved").get("status") == "True",
        namespace,
        seconds=60,
    )
    assert repaired["status"]["verdict"] == "Fits"


def test_without_network_a_known_model_is_planned_and_an_unknown_one_says_so(
    scene: Scene, api: Api, namespace: str
) -> None:
    online = dict(scene.environment)
    scene.stop_operator()
    # Port 9 is the discard service: nobody listens on it.
    scene.environment = {**online, "HF_ENDPOINT": "http://127.0.0.1:9"}
    try:
        scene.start_operator()
        api.create(deployment(namespace, name="known", model=LLAMA_8B, workload={"contextLength": 4096}))
        api.create(deployment(namespace, name="unknown", model="nobody/nothing"))

        known = api.wait(
            "VLLMDeployment", "known", lambda obj: condition(obj, "Ready").get("status") == "True", namespace
        )
        unknown = api.wait(
            "VLLMDeployment", "unknown", lambda obj: condition(obj, "ModelResolved").get("status") == "False", namespace
        )
    finally:
        scene.close()
        scene.environment = online
        scene.start_operator()
    assert known["status"]["verdict"] == "Fits"
    assert condition(unknown, "ModelResolved")["reason"] == "SourceOffline"
    assert "configRef" in condition(unknown, "ModelResolved")["message"]


def test_a_secret_never_shows_up_anywhere(scene: Scene, api: Api, namespace: str) -> None:
    token = "hf_thisMustNeverBeSeen0123456789"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hub", "namespace": namespace},
        "stringData": {"token": token},
    }
    api.create(secret)
    api.create(deployment(namespace, model={"uri": "test/gated", "tokenSecretRef": {"name": "hub"}}))
    judged = api.wait(
        "VLLMDeployment", "model", lambda obj: condition(obj, "ModelResolved").get("status") == "False", namespace
    )
    everything = [json.dumps(judged), json.dumps(api.list("Event", namespace)), scene.operator_log(), scene.metrics()]
    assert not any(token in text for text in everything)


def test_a_field_that_pods_do_not_have_is_named_and_mended_by_removing_it(api: Api, namespace: str) -> None:
    api.create(deployment(namespace, podTemplate={"spec": {"priorityClass": "high"}}))

    refused = api.wait(
        "VLLMDeployment", "model", lambda obj: condition(obj, "Rendered").get("reason") == "ApplyFailed", namespace
    )
    assert (
        ".spec.template.spec.priorityClass: field not declared in schema" in condition(refused, "Rendered")["message"]
    )

    api.patch("VLLMDeployment", "model", {"spec": {"podTemplate": None}}, namespace)
    api.wait("VLLMDeployment", "model", lambda obj: condition(obj, "Rendered").get("status") == "True", namespace)
