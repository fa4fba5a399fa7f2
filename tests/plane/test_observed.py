"""What model servers report reaches the status and later plans; a real server answers for the pods that KWOK plays."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.controlplane.audit import AuditTrail
from tests.controlplane.scene import NAMESPACE
from tests.controlplane.waiting import held_within, wait_until
from tests.plane.events import events
from tests.plane.models import LLAMA_8B, config_of, deployment
from tests.plane.served_metrics import MetricsServer, metrics_served
from tests.plane.test_verdicts import WORKLOAD, is_ready

from vllm_operator.api.observations import DATA_KEY
from vllm_operator.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

CONFIG_MAP = "vllm-operator-observations"
SHOWN_WITHIN_SECONDS = 30
SETTLED_SECONDS = 1.0
H100 = {"products": ["*H100*"]}


@pytest.fixture(scope="module", autouse=True)
def _forgotten_afterwards(scene: Scene) -> Iterator[None]:
    """Later tests are planned without what is learned here."""
    yield
    scene.stop_operator()
    scene.api.patch("ConfigMap", CONFIG_MAP, {"data": None}, NAMESPACE)
    scene.start_operator()


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with metrics_served() as served:
        yield served


def served_by(
    server: MetricsServer, namespace: str, name: str = "model", *, seqs: int, marks: dict[str, str] | None = None
) -> dict[str, Any]:
    """A deployment whose pods have that server's address; `seqs` keeps one test's observations from another's."""
    overlay = {"metadata": {"annotations": {"vllm-operator.test/pod-ip": server.address, **(marks or {})}}}
    return deployment(
        namespace,
        name=name,
        model=LLAMA_8B,
        workload=WORKLOAD,
        gpu=H100,
        engine={"maxNumSeqs": seqs},
        podTemplate=overlay,
    )


def observed_in(obj: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = obj.get("status", {}).get("observed") or {}
    return found


def observes(tokens: int) -> Callable[[dict[str, Any]], bool]:
    return lambda obj: observed_in(obj).get("kvCacheTokens") == tokens


def kept(api: Api) -> list[dict[str, Any]]:
    """The observations in the operator's ConfigMap."""
    text = (api.get("ConfigMap", CONFIG_MAP, NAMESPACE).get("data") or {}).get(DATA_KEY)
    found: list[dict[str, Any]] = json.loads(text)["observations"] if text else []
    return found


def test_the_status_shows_what_the_server_states_and_later_plans_use_it(
    scene: Scene, api: Api, namespace: str, server: MetricsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, nodes, exported = (tmp_path / name for name in ("model.yaml", "nodes.yaml", "observations.yaml"))
    asked.write_text(yaml.safe_dump(served_by(server, namespace, "later", seqs=101)))
    (tmp_path / "config.json").write_bytes(config_of(LLAMA_8B))
    nodes.write_text(scene.kubectl("get", "nodes", "-o", "yaml").stdout)

    def planned(*options: str) -> dict[str, Any]:
        inputs = ("-f", str(asked), "--nodes", str(nodes), "--facts", str(tmp_path))
        assert main(["plan", *inputs, "-o", "json", *options]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    predicted = planned()["memory"]["kvCacheTokens"]
    server.states(tokens=320_000, concurrency=39.06)
    api.create(served_by(server, namespace, seqs=101))
    api.wait("VLLMDeployment", "model", is_ready, namespace)
    begun = time.monotonic()
    seen = api.wait("VLLMDeployment", "model", observes(320_000), namespace)
    assert time.monotonic() - begun < SHOWN_WITHIN_SECONDS

    observed = observed_in(seen)
    assert observed["maxConcurrency"] == 39.06
    assert observed["predictedKvCacheTokens"] == predicted
    assert observed["estimateErrorPercent"] == pytest.approx(100 * (predicted - 320_000) / 320_000, abs=0.01)
    assert observed["planHash"] == seen["status"]["plan"]["hash"]
    assert any("vLLM reports a KV cache of 320,000 tokens" in text for text in seen["status"]["warnings"])
    wait_until(lambda: len(events(api, namespace, "EstimateOff")) == 1, "one Event")
    assert f'vllm_operator_kv_cache_observed_tokens{{name="model",namespace="{namespace}"}} 320000.0' in scene.metrics()
    assert server.asked == 1

    wait_until(
        lambda: any(one["source"] == f"{namespace}/model" for one in kept(api)), "the observation in its ConfigMap"
    )
    exported.write_text(scene.kubectl("get", "configmap", CONFIG_MAP, "-n", NAMESPACE, "-o", "yaml").stdout)
    memory = planned("--observations", str(exported))["memory"]
    assert (memory["basis"], memory["kvCacheTokens"]) == ("Observed", 320_000)

    later = deployment(namespace, name="later", model=LLAMA_8B, workload=WORKLOAD, gpu=H100, engine={"maxNumSeqs": 101})
    api.create(later)
    told = api.wait("VLLMDeployment", "later", lambda obj: bool(obj.get("status", {}).get("memory")), namespace)
    assert (told["status"]["memory"]["basis"], told["status"]["memory"]["kvCacheTokens"]) == ("Observed", 320_000)
    assert told["status"]["verdict"] == "Fits"
    assert told["status"]["plan"]["args"] == seen["status"]["plan"]["args"]


def test_what_is_observed_is_one_write_and_then_silence_and_no_pod_is_replaced(
    scene: Scene, api: Api, namespace: str, server: MetricsServer
) -> None:
    if scene.plane.audit_log is None:
        pytest.skip("a given cluster's audit log cannot be read; our own control plane has one")
    trail = AuditTrail(scene.plane.audit_log)
    server.states(tokens=16_000, concurrency=1.95)
    server.status = 404
    api.create(served_by(server, namespace, seqs=102))
    served = api.wait("VLLMDeployment", "model", is_ready, namespace)
    wait_until(lambda: server.asked >= 2, "two looks at the pod")
    assert observed_in(served) == {}, "that a server has no metrics yet is nothing to hear of"
    assert [event["type"] for event in api.list("Event", namespace) if event["type"] != "Normal"] == []
    pods = {pod["metadata"]["uid"] for pod in api.list("Pod", namespace)}
    workload = api.get("Deployment", "model", namespace)["metadata"]["generation"]
    trail.read()
    trail.requests.clear()

    server.status = 200
    seen = api.wait("VLLMDeployment", "model", observes(16_000), namespace)
    assert any("room for 1.95 sequences of 8,192 tokens at once where 8" in text for text in seen["status"]["warnings"])
    assert is_ready(seen)
    wait_until(lambda: len(events(api, namespace, "CapacityBelowWorkload")) == 1, "one Event")
    assert not held_within(
        lambda: (
            api.get("VLLMDeployment", "model", namespace)["metadata"]["resourceVersion"]
            != seen["metadata"]["resourceVersion"]
        ),
        SETTLED_SECONDS,
    )
    written = [one.resource for one in trail.writes() if one.namespace == namespace]
    assert sorted(written) == ["events", "events", "vllmdeployments/status"]
    assert {pod["metadata"]["uid"] for pod in api.list("Pod", namespace)} == pods
    assert api.get("Deployment", "model", namespace)["metadata"]["generation"] == workload


def test_an_operator_that_is_killed_loses_nothing_and_says_nothing_twice(
    scene: Scene, api: Api, namespace: str, server: MetricsServer
) -> None:
    server.states(tokens=330_000, concurrency=40.28)
    late = {"vllm-operator.test/ready-after-milliseconds": "1500"}
    api.create(served_by(server, namespace, seqs=103, marks=late))
    wait_until(lambda: bool(api.list("Pod", namespace)), "a pod")
    scene.stop_operator(kill=True)
    (pod,) = api.list("Pod", namespace)
    api.wait("Pod", pod["metadata"]["name"], lambda obj: obj["status"]["phase"] == "Running", namespace)
    scene.start_operator()
    api.wait("VLLMDeployment", "model", observes(330_000), namespace)
    wait_until(lambda: len(events(api, namespace, "EstimateOff")) == 1, "one Event")
    seen = api.wait("VLLMDeployment", "model", is_ready, namespace)

    scene.stop_operator(kill=True)
    asked = server.asked
    scene.start_operator()
    wait_until(lambda: server.asked > asked, "another look at the pod")
    assert not held_within(
        lambda: (
            api.get("VLLMDeployment", "model", namespace)["metadata"]["resourceVersion"]
            != seen["metadata"]["resourceVersion"]
        ),
        SETTLED_SECONDS,
    )
    assert len(events(api, namespace, "EstimateOff")) == 1


def test_an_engine_that_starts_again_is_read_again(api: Api, namespace: str, server: MetricsServer) -> None:
    server.states(tokens=300_000, concurrency=36.6)
    api.create(served_by(server, namespace, seqs=104))
    api.wait("VLLMDeployment", "model", observes(300_000), namespace)
    server.states(tokens=299_984, concurrency=36.6)
    (pod,) = api.list("Pod", namespace)
    status = {"containerStatuses": [{**pod["status"]["containerStatuses"][0], "restartCount": 1}]}
    api.patch("Pod", pod["metadata"]["name"], {"status": status}, namespace, subresource="status")
    api.wait("VLLMDeployment", "model", observes(299_984), namespace)


def test_a_server_that_answers_nonsense_is_named_and_changes_nothing_else(
    api: Api, namespace: str, server: MetricsServer
) -> None:
    server.status, server.headers = 302, {"Location": f"http://{server.address}:1/metrics"}
    api.create(served_by(server, namespace, seqs=105))
    named = api.wait("VLLMDeployment", "model", lambda obj: "problem" in observed_in(obj), namespace)
    assert "Redirect: /metrics redirects, which is not followed" in observed_in(named)["problem"]
    assert "kvCacheTokens" not in observed_in(named)
    wait_until(lambda: len(events(api, namespace, "ObservationIgnored")) == 1, "one Event")
    assert is_ready(api.wait("VLLMDeployment", "model", is_ready, namespace))
    server.states(tokens=310_000, concurrency=37.8)
    api.wait("VLLMDeployment", "model", observes(310_000), namespace)
