"""`make demo`: what a user would see, on a real control plane with fake GPU nodes; leaves nothing behind.

The verdicts come at once and need no cluster. Then the control plane is built (once) or found, the operator runs on it
as the chart's ServiceAccount, and the samples of `manifests/examples/` are applied with kubectl.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import yaml
from tests.controlplane import build
from tests.controlplane.client import condition
from tests.controlplane.given import GivenCluster, given_kubeconfig
from tests.controlplane.plane import ControlPlane
from tests.controlplane.scene import EXAMPLES, NODES, Scene

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE = "demo"
SAMPLES = ("llama-8b", "llama-70b", "llama-405b", "qwen3-8b-tight")
COMMAND = [sys.executable, "-m", "vllm_operator"]
CONDITIONS = r'{range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\n"}{end}'
EXPECTED_EXIT_CODES = (0, 3, 4)
"""Fits, does not fit, unknown: all of them are answers."""


def run_demo() -> int:
    """Run the demo; returns the exit code. SIGTERM and Ctrl-C end it in order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # Written to a file or a pipe, our lines stay in order with what git, Go and kubectl write.
    sys.stdout.reconfigure(line_buffering=True)
    started = time.monotonic()
    try:
        _offline()
        _on_a_cluster()
    except KeyboardInterrupt:
        print("\ninterrupted: everything that was started is ended")
        return 130
    print(f"\nthe whole demo: {time.monotonic() - started:.0f} s")
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _offline() -> None:
    _title("Verdicts with no cluster: vllm-operator plan")
    for sample in SAMPLES:
        arguments = ["plan", "-f", _shown(EXAMPLES / f"{sample}.yaml"), "--nodes", _shown(NODES)]
        print(f"$ vllm-operator {' '.join(arguments)}")
        done = subprocess.run([*COMMAND, *arguments], cwd=build.ROOT, capture_output=True, text=True, check=False)
        if done.returncode not in EXPECTED_EXIT_CODES:
            raise SystemExit(f"vllm-operator ended with {done.returncode}:\n{done.stderr}")
        print(textwrap.indent(done.stdout.rstrip(), "  "), end=f"\n  exit {done.returncode}\n\n")


def _on_a_cluster() -> None:
    _title("A real control plane: etcd, kube-apiserver, controller manager, scheduler, KWOK")
    given = given_kubeconfig()
    if given is None and os.environ.get("KUBECONFIG"):
        print("(your KUBECONFIG's cluster is not touched unasked; to use it: make demo KUBECONFIG_TEST=$KUBECONFIG)")
    build.ensure_binaries()
    started = time.monotonic()
    with ControlPlane() if given is None else GivenCluster(given) as plane:
        print(f"ready after {time.monotonic() - started:.1f} s")
        # No hub: the bundled catalogue knows the samples' models.
        scene = Scene(plane, environment={"VLLM_OPERATOR_HUB_ENABLED": "false"})
        try:
            _set_up(scene)
            _apply_samples(scene)
            _show(scene)
        finally:
            _clean_up(scene)
    print("everything that was started or created is gone")


def _clean_up(scene: Scene) -> None:
    if not scene.plane.disposable:
        scene.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    scene.close()


def _set_up(scene: Scene) -> None:
    scene.install()
    scene.add_nodes()
    _kubectl(scene, "get", "nodes", "-L", "nvidia.com/gpu.product,nvidia.com/gpu.memory,nvidia.com/gpu.count")
    started = time.monotonic()
    scene.start_operator()
    scene.install_webhook()
    ready_seconds = time.monotonic() - started
    print(f"the operator runs as ServiceAccount vllm-operator/vllm-operator: ready after {ready_seconds:.1f} s\n")
    namespace = {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    scene.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace})
    scene.kubectl("config", "set-context", "--current", f"--namespace={NAMESPACE}")
    # The samples name a hub token, as gated models need one; this one opens nothing.
    scene.kubectl("create", "secret", "generic", "hf", "--from-literal=token=none")


def _apply_samples(scene: Scene) -> None:
    _title("kubectl apply")
    for sample in SAMPLES:
        _kubectl(scene, "apply", "-f", _shown(EXAMPLES / f"{sample}.yaml"))
    _title("The refused one, with what the planner suggested")
    patched = _with_first_suggestion(EXAMPLES / "llama-405b.yaml")
    print("$ kubectl apply -f -    # llama-405b with the patch of the first suggestion")
    _print(scene.kubectl("apply", "-f", "-", text=json.dumps(patched), check=False))


def _show(scene: Scene) -> None:
    for name in ("llama-8b", "llama-70b", "qwen3-8b-tight"):
        _kubectl(scene, "wait", "--for=condition=Ready", f"vd/{name}", "--timeout=60s")
    scene.api.wait("VLLMDeployment", "llama-405b", lambda obj: condition(obj, "Rendered") != {}, NAMESPACE)
    _title("What a user sees")
    _kubectl(scene, "get", "vd")
    _kubectl(scene, "get", "pods", "-o", "custom-columns=POD:.metadata.name,PHASE:.status.phase,NODE:.spec.nodeName")
    arguments = "jsonpath={.spec.template.spec.containers[0].args}"
    _kubectl(scene, "get", "deployment", "llama-70b", "-o", arguments)
    _kubectl(scene, "get", "vd", "llama-8b", "-o", "jsonpath={.status.feasibility}")
    _kubectl(scene, "get", "vd", "llama-8b", "-o", f"jsonpath={CONDITIONS}")
    _kubectl(scene, "get", "events", "--field-selector=involvedObject.kind=VLLMDeployment")


def _with_first_suggestion(path: Path) -> dict[str, object]:
    """Return a sample with the first change that the planner found to fit, as `plan -o json` gives it."""
    arguments = ["plan", "-f", str(path), "--nodes", str(NODES), "-o", "json"]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    (plan,) = answer if isinstance(answer, list) else [answer]
    patch = plan["suggestions"][0]["patch"]
    sample = yaml.safe_load(path.read_text())
    return _merged(sample, patch)


def _merged(base: dict[str, object], patch: dict[str, object]) -> dict[str, object]:
    """Apply a JSON merge patch (RFC 7386)."""
    merged = dict(base)
    for key, value in patch.items():
        known = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merged(known if isinstance(known, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def _kubectl(scene: Scene, *arguments: str) -> None:
    print(f"$ kubectl {shlex.join(arguments)}")
    _print(scene.kubectl(*arguments, check=False))


def _print(done: subprocess.CompletedProcess[str]) -> None:
    print(textwrap.indent((done.stdout + done.stderr).rstrip(), "  "), end="\n\n")


def _title(text: str) -> None:
    print(f"\n== {text} ==\n")


def _shown(path: Path) -> str:
    return str(path.relative_to(build.ROOT))
