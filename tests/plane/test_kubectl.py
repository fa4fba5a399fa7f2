"""What kubectl shows of the resource, and what it may change without asking the planner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.controlplane.client import Refused, condition
from tests.plane.models import LLAMA_8B, LLAMA_405B, deployment
from tests.plane.test_verdicts import WORKLOAD, is_ready

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane


def test_get_shows_a_row_with_model_verdict_risk_and_state(scene: Scene, api: Api, namespace: str) -> None:
    api.create(deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, gpu={"products": ["*H100*"]}))
    ready = api.wait("VLLMDeployment", "model", is_ready, namespace)
    holds = ready["status"]["feasibility"]["maxConcurrencyAtContext"]

    header, row = scene.kubectl("get", "vd", "-o", "wide", f"--namespace={namespace}").stdout.splitlines()

    columns = "NAME MODEL VERDICT RISK GPUS READY STATUS AGE GPU CONTEXT CONCURRENCY HEADROOM MESSAGE"
    assert header.split() == columns.split()
    shown = row.split()
    assert shown[:7] == ["model", LLAMA_8B, "Fits", "Low", "1", "1", "ModelServed"], row
    assert shown[8:11] == ["NVIDIA-H100-80GB-HBM3", "8192", str(holds)], row
    assert holds >= WORKLOAD["concurrency"]


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("vd.spec.workload.contextLength", "FIELD: contextLength <integer>"),
        ("vd.spec.policy.admission", "ENUM:"),
        ("vd.status.feasibility.oomRisk", "Low from 2 GiB of headroom"),
    ],
)
def test_explain_says_what_a_field_is_for(scene: Scene, api: Api, field: str, words: str) -> None:
    explained = scene.kubectl("explain", field).stdout
    assert words in explained
    assert "DESCRIPTION:\n    <empty>" not in explained


def test_the_plugin_plans_against_the_cluster_with_the_kubeconfig_of_kubectl(scene: Scene, tmp_path: Path) -> None:
    asked = tmp_path / "model.yaml"
    asked.write_text(json.dumps(deployment("default", model=LLAMA_405B, workload=WORKLOAD)))
    plugin = tmp_path / "kubectl-vllm"
    # What the package installs under that name, wherever kubectl looks.
    plugin.write_text(f'#!/bin/sh\nexec {sys.executable} -m vllm_operator "$@"\n')
    plugin.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "KUBECONFIG": str(scene.plane.kubeconfig)}
    command = [str(scene.plane.kubectl), "vllm", "plan", "-f", str(asked), "--cluster", "-o", "json"]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 3, done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "DoesNotFit"
    assert "NVIDIA-H100-80GB-HBM3" in answer["message"]
    assert answer["suggestions"][0]["patch"] == {"spec": {"engine": {"quantization": "fp8"}}}


def test_a_dry_run_is_judged_and_leaves_nothing(api: Api, namespace: str) -> None:
    with pytest.raises(Refused, match=r"needs [0-9.]+ GiB per GPU"):
        api.create(deployment(namespace, model=LLAMA_405B, workload=WORKLOAD), dry_run=True)
    api.create(deployment(namespace, model=LLAMA_8B, workload=WORKLOAD), dry_run=True)
    assert api.list("VLLMDeployment", namespace) == []


def test_a_label_on_what_no_longer_fits_is_not_refused(api: Api, namespace: str) -> None:
    api.create(deployment(namespace, model=LLAMA_405B, workload=WORKLOAD, policy={"admission": "Warn"}))
    api.wait("VLLMDeployment", "model", lambda obj: condition(obj, "Feasible").get("status") == "False", namespace)

    with pytest.raises(Refused):
        api.patch("VLLMDeployment", "model", {"spec": {"policy": {"admission": "Enforce"}}}, namespace)
    api.warnings.clear()
    labelled = api.patch("VLLMDeployment", "model", {"metadata": {"labels": {"team": "search"}}}, namespace)

    assert labelled["metadata"]["labels"] == {"team": "search"}
    assert api.warnings == []
