"""The stand-in driver library, compiled once, and an API server that holds one node."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
SOURCE_ROOT = HERE.parents[2] / "operator"


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our `libnvidia-ml.so.1`, for LD_LIBRARY_PATH."""
    folder = tmp_path_factory.mktemp("driver")
    command = [*_c_compiler(), "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(folder / "libnvidia-ml.so.1")]
    subprocess.run([*command, str(HERE / "fake_nvml.c")], check=True, timeout=60)
    return folder


def _c_compiler() -> list[str]:
    """The machine's C compiler, else the one that a PyPI package ships, installed beside the tests' other packages."""
    found = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if found is not None:
        return [found]
    lock = SOURCE_ROOT.parent / "requirements-cc.lock"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock)]
    with lock.open() as held:
        # Workers of one test run share the environment: the second finds what the first has installed.
        fcntl.flock(held, fcntl.LOCK_EX)
        if subprocess.run(install, check=False, timeout=300).returncode:
            pytest.fail("a stand-in libnvidia-ml.so.1 has to be compiled: install a C compiler (gcc, cc or clang)")
    return [sys.executable, "-m", "ziglang", "cc"]


@pytest.fixture
def label_node(fake_driver: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `label-node` in a process of its own, where the real pynvml loads the stand-in library."""

    def run(*args: str, gpus: str | None, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCE_ROOT),
            "LD_LIBRARY_PATH": str(fake_driver),
            "KUBECONFIG": str(kubeconfig or tmp_path / "absent"),
        }
        if gpus is not None:
            environment["FAKE_NVML"] = gpus
        return subprocess.run(
            [sys.executable, "-m", "vllm_operator", "label-node", *args],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


class OneNode:
    """An API server with one node; it applies merge patches of labels and remembers them."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self.patches: list[dict[str, Any]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_PATCH(self) -> None:
                patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["Content-Type"] == "application/merge-patch+json"
                outer.patches.append(patch)
                for key, value in patch["metadata"]["labels"].items():
                    if value is None:
                        outer.labels.pop(key, None)
                    else:
                        outer.labels[key] = value
                self._answer()

            def _answer(self) -> None:
                found = self.path.split("?")[0] == "/api/v1/nodes/gpu-1"
                body: dict[str, Any] = {"metadata": {"name": "gpu-1", "labels": outer.labels}}
                if not found:
                    body = {"kind": "Status", "message": 'nodes "other" not found'}
                data = json.dumps(body).encode()
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                return

        return Handler

    def write_kubeconfig(self, path: Path) -> Path:
        server = f"http://127.0.0.1:{self.server.server_address[1]}"
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "clusters": [{"name": "c", "cluster": {"server": server}}],
                    "users": [{"name": "u", "user": {}}],
                    "contexts": [context],
                }
            ),
            encoding="utf-8",
        )
        return path


@pytest.fixture
def one_node() -> Iterator[Callable[[dict[str, str]], OneNode]]:
    """Start API servers with one node that carries the given labels."""
    started: list[OneNode] = []

    def start(labels: dict[str, str]) -> OneNode:
        node = OneNode(labels)
        started.append(node)
        threading.Thread(target=node.server.serve_forever, daemon=True).start()
        return node

    yield start
    for node in started:
        node.server.shutdown()
        node.server.server_close()
