"""`vllm-operator nodes`: what is printed, and what is said of input that cannot be read."""

from __future__ import annotations

import argparse
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlparse

import pytest

from vllm_operator.cli import nodes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NODES = """
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata:
    name: gpu-1
    labels: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3, nvidia.com/gpu.memory: "81559"}
  spec: {taints: [{key: nvidia.com/gpu, effect: NoSchedule}]}
  status: {capacity: {nvidia.com/gpu: "8"}, allocatable: {nvidia.com/gpu: "8"}}
- {kind: Service, metadata: {name: ignored}}
---
kind: Node
metadata: {name: bare}
status: {allocatable: {nvidia.com/gpu: 2}}
---
kind: PodList
items:
- metadata: {name: p, namespace: team}
  spec: {nodeName: gpu-1, containers: [{resources: {limits: {nvidia.com/gpu: 3}}}]}
"""


def run(*args: str) -> int:
    parser = argparse.ArgumentParser()
    nodes.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["nodes", *args])
    code = parsed.run(parsed)
    assert isinstance(code, int)
    return code


@pytest.fixture
def dump(tmp_path: Path) -> str:
    path = tmp_path / "nodes.yaml"
    path.write_text(NODES, encoding="utf-8")
    return str(path)


def test_json_is_the_contract(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--nodes", dump, "-o", "json") == 0
    report = json.loads(capsys.readouterr().out)
    bare, h100 = report["gpus"]
    assert h100 == {
        "node": "gpu-1",
        "resource": "nvidia.com/gpu",
        "vendor": "nvidia",
        "product": "NVIDIA-H100-80GB-HBM3",
        "memory_gib": 79.647,
        "capacity": 8,
        "allocatable": 8,
        "free": 5,
        "sharing": "Exclusive",
        "mig_profile": None,
        "compute_capability": "9.0",
        "basis": "NodeLabel",
        "usable": True,
        "taints": [{"key": "nvidia.com/gpu", "value": "", "effect": "NoSchedule"}],
        "warnings": [],
        "interconnect": "NVLink",
        "declared": False,
    }
    assert (bare["product"], bare["memory_gib"], bare["compute_capability"], bare["basis"]) == (
        None,
        None,
        None,
        "Unknown",
    )
    assert report["warnings"] == bare["warnings"]
    assert "node bare" in report["warnings"][0]


def test_the_table_names_node_figure_and_basis(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--nodes", dump) == 0
    header, bare, h100, *_ = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert header == "NODE RESOURCE PRODUCT MEMORY GIB BASIS SHARING CAPACITY ALLOC FREE USABLE"
    assert bare == "bare nvidia.com/gpu unknown unknown Unknown Exclusive 2 2 2 yes"
    assert h100 == "gpu-1 nvidia.com/gpu NVIDIA-H100-80GB-HBM3 79.65 NodeLabel Exclusive 8 8 5 tainted"


def test_json_input_and_standard_input_are_read_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"kind": "Node", "metadata": {"name": "n"}, "status": {"allocatable": {"nvidia.com/gpu": "1"}}}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"kind": "List", "items": [node]})))
    assert run("--nodes", "-", "-o", "json") == 0
    assert [gpu["node"] for gpu in json.loads(capsys.readouterr().out)["gpus"]] == ["n"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "No such file"),
        ("a: [", "is neither YAML nor JSON"),
        ("just words", "holds no Kubernetes objects"),
        ("!!python/object/apply:os.system [true]", "is neither YAML nor JSON"),
    ],
    ids=["missing", "broken", "words", "a YAML tag that runs code"],
)
def test_input_that_cannot_be_read_is_named(
    text: str | None, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "input.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert run("--nodes", str(path)) == 2
    assert complaint in capsys.readouterr().err


def test_binary_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "input.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    assert run("--nodes", str(path)) == 2
    assert "is neither YAML nor JSON" in capsys.readouterr().err


def test_a_source_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "--nodes FILE or --cluster" in capsys.readouterr().err


def test_an_empty_file_is_an_empty_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("", encoding="utf-8")
    assert run("--nodes", str(path)) == 0
    assert "No node offers a GPU resource." in capsys.readouterr().out


class Api(BaseHTTPRequestHandler):
    """Two pages of nodes, one of pods; no DRA, no Karpenter, and Kueue is not ours to read."""

    def do_GET(self) -> None:
        url = urlparse(self.path)
        status, body = self._answer(url.path, parse_qs(url.query))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        gpus = {"allocatable": {"nvidia.com/gpu": "8"}}
        if path == "/api/v1/nodes":
            second = query.get("continue") == ["more"]
            name = "second" if second else "first"
            return 200, {
                "metadata": {} if second else {"continue": "more"},
                "items": [{"metadata": {"name": name}, "status": gpus}],
            }
        if path == "/api/v1/pods":
            spec = {"nodeName": "first", "containers": [{"resources": {"limits": {"nvidia.com/gpu": "3"}}}]}
            return 200, {"metadata": {}, "items": [{"metadata": {"name": "p"}, "spec": spec}]}
        return (403 if "kueue" in path else 404), {"kind": "Status", "message": "no"}

    def log_message(self, format: str, *args: object) -> None:
        return


class ForbiddenApi(Api):
    """An API server that lets nobody list anything."""

    def _answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        return 403, {"kind": "Status", "message": "nodes is forbidden"}


@pytest.fixture(params=[Api])
def cluster(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), request.param)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("cluster")
def test_a_cluster_is_read_page_by_page_and_without_the_kinds_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--cluster", "-o", "json") == 0
    gpus = json.loads(capsys.readouterr().out)["gpus"]
    assert [(gpu["node"], gpu["free"]) for gpu in gpus] == [("first", 5), ("second", 8)]


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("cluster", [ForbiddenApi], indirect=True)
def test_what_the_api_server_refuses_is_said_in_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--cluster") == 2
    assert "nodes is forbidden" in capsys.readouterr().err
