"""vLLM's own server starts with the rendered flags and serves a tiny model on the CPU (`make test-vllm`)."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.planning.fleets import inventory, node
from tests.vllm.install import VERSION

from vllm_operator.api.v1alpha1 import API_VERSION, KIND, parse_deployment
from vllm_operator.models.facts import Device, EngineSettings
from vllm_operator.models.kv import kv_layout
from vllm_operator.models.settings import resolve_settings
from vllm_operator.models.source.directory import load_directory
from vllm_operator.planning.decide import plan
from vllm_operator.planning.plan import Plan, Verdict
from vllm_operator.render.objects import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.models.facts import ModelFacts

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

NAME = "tiny"
CONTEXT = 1024
KV_SPACE_GIB = 1
SECONDS_TO_START = 400
"""Three serial imports of PyTorch: a minute on an idle machine with two cores."""
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": str(KV_SPACE_GIB),
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
"""What the CPU build needs and a GPU does not: a size of the KV cache, no thread pinning."""
OBJECT = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": {"name": NAME, "namespace": "default"},
    "spec": {
        "model": {"uri": f"pvc://weights/{NAME}"},
        "workload": {"contextLength": CONTEXT, "concurrency": 4},
        # Without it the CPU build compiles C++; its bfloat16 kernels use tile registers that not every machine allows.
        "engine": {"version": VERSION, "enforceEager": True, "dtype": "float32"},
    },
}


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running server and the plan that it was started by."""

    plan: Plan
    url: str
    kv_bytes_per_token: int

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            result: dict[str, Any] = json.load(answer)
            return result


@pytest.fixture(scope="module")
def served(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("vllm")
    weights = home / NAME
    subprocess.run(
        [engine, Path(__file__).with_name("tiny_model.py"), weights], check=True, capture_output=True, timeout=300
    )
    facts = load_directory(weights)
    deployment = parse_deployment(OBJECT)
    found = plan(deployment.spec, facts, inventory(node("L4", "l4-0", 1)))
    assert found.verdict is Verdict.FITS, found.message
    port = _free_port()
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [engine.with_name("vllm"), "serve", *_arguments(found, weights, port)],
            env={**os.environ, **ENVIRONMENT, "HOME": str(home)},
            cwd=home,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_healthy(url, process, log)
            yield Served(plan=found, url=url, kv_bytes_per_token=_kv_bytes_per_token(facts))
        finally:
            _stop(process)


def _arguments(found: Plan, weights: Path, port: int) -> list[str]:
    """The rendered container's arguments, with the volume's directory and the port of this machine."""
    objects = render(found, parse_deployment(OBJECT), namespace="default", name=NAME)
    workload = next(obj for obj in objects if obj["kind"] == "Deployment")
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    model, *flags = container["args"]
    assert model == f"/models/{NAME}"
    flags[flags.index("--port") + 1] = str(port)
    return [str(weights), *flags]


def _kv_bytes_per_token(facts: ModelFacts) -> int:
    """As the planner computes it; the size of the blocks differs between CPU and GPU, what a token takes does not."""
    card = Device(product="L4", memory_bytes=24 * 1024**3)
    resolved = resolve_settings(facts, EngineSettings(version=VERSION, dtype="float32", max_model_len=CONTEXT), card)
    return kv_layout(facts, resolved).bytes_one_sequence(CONTEXT) // CONTEXT


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        assert process.poll() is None, f"vLLM ended with {process.returncode}\n{log.read_text()[-6000:]}"
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise AssertionError(f"vLLM was not healthy after {SECONDS_TO_START} s\n{log.read_text()[-6000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_model_is_served_by_its_name_and_planned_length(served: Served) -> None:
    (model,) = json.loads(served.get("/v1/models"))["data"]
    assert model["id"] == NAME
    assert model["max_model_len"] == served.plan.max_model_len == CONTEXT


def test_it_completes_a_prompt(served: Served) -> None:
    body = {"model": NAME, "prompt": "hello", "max_tokens": 8, "ignore_eos": True, "temperature": 0}
    answer = served.post("/v1/completions", body)
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["choices"][0]["finish_reason"] == "length"


def test_it_runs_with_the_flags_of_the_plan(served: Served) -> None:
    info = _cache_info(served)
    assert float(info["gpu_memory_utilization"]) == served.plan.gpu_memory_utilization
    assert info["cache_dtype"] == served.plan.kv_cache_dtype == "auto"


def test_its_cache_holds_the_tokens_that_the_memory_model_says(served: Served) -> None:
    tokens = int(_cache_info(served)["kv_cache_size_tokens"])
    assert tokens == KV_SPACE_GIB * 1024**3 // served.kv_bytes_per_token


def _cache_info(served: Served) -> dict[str, str]:
    (line,) = re.findall(r"^vllm:cache_config_info\{(.*)\}", served.get("/metrics"), re.MULTILINE)
    return dict(re.findall(r'(\w+)="([^"]*)"', line))
