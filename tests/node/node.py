"""A real node for tests and by hand: started in seconds, gone without a trace, whatever happens to its user."""

from __future__ import annotations

import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tests.controlplane import build as controlplane
from tests.controlplane.pki import Authority
from tests.controlplane.plane import write_kubeconfig
from tests.node import build, machine
from tests.node.images import write_image
from tests.node.inside import ctr
from tests.node.keeper import children
from tests.node.layout import ENGINE_IMAGE, PAUSE_IMAGE, READY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.controlplane.pki import KeyPair

READY_WITHIN_SECONDS = 90
GONE_WITHIN_SECONDS = 180
"""Its images and containers may be gigabytes of files."""


class NodeError(Exception):
    """No node can run here, or it did not start; the message says why and what to do."""


class RealNode:
    """A node with its own control plane; a context manager that leaves nothing behind.

    Stands where a `ControlPlane` stands for everything that only talks to the API server.
    """

    disposable: ClassVar[bool] = True
    """Whatever is put there goes with it."""
    webhook_host: ClassVar[str] = "127.0.0.1"
    """Where the API server finds a process that runs in the node's network."""

    def __init__(self, *, images: Sequence[Path] = ()) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vllm-operator-node-"))
        self.authority = Authority(self.directory / "own-pki")
        self._images = list(images)
        self._keeper: subprocess.Popen[str] | None = None
        self.started_within_seconds = 0.0
        """From nothing, with everything built, to a node on which pods can run."""

    def __enter__(self) -> RealNode:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def kubeconfig(self) -> Path:
        """Path of the administrator's kubeconfig, for this machine's processes."""
        return self.directory / "outside.kubeconfig"

    @property
    def kubectl(self) -> Path:
        """A kubectl of the server's version."""
        return controlplane.binary_directory() / "kubectl"

    @property
    def pid(self) -> int:
        """The process whose namespaces are the node's: the child of the keeper's `unshare`."""
        assert self._keeper is not None, "the node does not run"
        (unshare,) = children(self._keeper.pid)
        (first,) = children(unshare)
        return first

    def start(self) -> None:
        """Start the node and return once pods can run on it.

        Raises:
            NodeError: the machine lacks something, or a process ended or was not ready in time.
        """
        if found := machine.hindrances():
            raise NodeError(f"no node can run here: {'; '.join(found)}; {machine.OTHERWISE}")
        build.ensure_binaries()
        begun = time.monotonic()
        images = [*self._own_images(), *self._images]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            self.server = f"https://127.0.0.1:{port}"
            (self.directory / "port").write_text(str(port))
            command = [sys.executable, "-m", "tests.node.keeper", str(self.directory), str(listener.fileno())]
            with (self.directory / "node.log").open("wb") as log:
                self._keeper = subprocess.Popen(
                    [*command, *map(str, images)],
                    cwd=controlplane.ROOT,
                    env=_environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    pass_fds=[listener.fileno()],
                    start_new_session=True,
                )
        self._await_ready(self._keeper)
        self.started_within_seconds = time.monotonic() - begun

    def stop(self) -> None:
        """End the node; its keeper removes everything."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            shutil.rmtree(self.directory, ignore_errors=True)
            return
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        keeper.stdin.close()
        keeper.wait(GONE_WITHIN_SECONDS)
        keeper.stdout.close()

    def wait(self) -> None:
        """Return once the node has ended of itself.

        Raises:
            NodeError: always, since it was not asked to; the message says which process ended.
        """
        assert self._keeper is not None, "the node does not run"
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.read()
        raise NodeError(f"the node ended: {said.strip()}")

    def client_context(self) -> ssl.SSLContext:
        """Return how the administrator's requests are secured."""
        pki = self.directory / "pki"
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        return context

    def kubeconfig_for(self, name: str, *, token: str, server: str | None = None) -> Path:
        """Write a kubeconfig that authenticates with a bearer token, for this machine unless a server is named."""
        ca = self.directory / "pki" / "ca.crt"
        return write_kubeconfig(self.directory, name, server=server or self.server, ca=ca, user={"token": token})

    def issue(self, name: str, *, hosts: Sequence[str]) -> KeyPair:
        """Sign a serving certificate with an authority of its own: the plane's key stays inside."""
        return self.authority.issue(name, common_name=name, hosts=hosts)

    def inside(self, *command: str) -> list[str]:
        """Return a command that runs in the node's network, with the machine's files."""
        return ["nsenter", f"--target={self.pid}", "--net", "--", *command]

    def import_image(self, archive: Path) -> None:
        """Give containerd an image from an OCI or Docker archive.

        Raises:
            NodeError: it refused the image.
        """
        namespaces = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--", *ctr(build.binaries())]
        done = subprocess.run(
            [*namespaces, "images", "import", str(archive)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NodeError(f"containerd refuses {archive.name}: {done.stderr.strip()}")

    def logs(self) -> str:
        """Return the end of every process's log."""
        found = sorted(self.directory.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in found)

    def _own_images(self) -> list[Path]:
        programs = build.own_programs()
        pause = write_image(
            self.directory / "pause.tar",
            name=PAUSE_IMAGE,
            programs={"/pause": programs / "pause"},
            entrypoint=["/pause"],
        )
        engine = write_image(
            self.directory / "engine.tar",
            name=ENGINE_IMAGE,
            programs={"/usr/local/bin/vllm": programs / "standin"},
            entrypoint=["vllm"],
        )
        return [pause, engine]

    def _await_ready(self, keeper: subprocess.Popen[str]) -> None:
        assert keeper.stdout is not None
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        said = ""
        while True:
            readable, _, _ = select.select([keeper.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise NodeError(f"the node is not ready after {READY_WITHIN_SECONDS} s\n{self.logs()}")
            line = keeper.stdout.readline()
            if line.strip() == READY:
                return
            if not line:
                raise NodeError(f"the node did not start: {said.strip()}")
            said += line


def _environment() -> dict[str, str]:
    """The caller's, with this repository importable from anywhere."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(controlplane.ROOT), str(controlplane.ROOT / "operator")])}
