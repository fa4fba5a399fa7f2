"""A cluster that somebody else runs (kind, or whatever a kubeconfig names) in the place of our own control plane.

KWOK runs here and keeps only nodes that carry its annotation. The API server must reach the webhook on this machine:
`WEBHOOK_HOST` is this machine's address as the cluster sees it (with kind, the gateway of its Docker network).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.controlplane import build
from tests.controlplane.pki import Authority, KeyPair
from tests.controlplane.plane import PlaneError, die_with_parent, kwok_arguments, write_kubeconfig

if TYPE_CHECKING:
    from collections.abc import Sequence


class GivenCluster:
    """Stands where a `ControlPlane` stands; a context manager that ends KWOK and removes its own files."""

    disposable = False
    """Others use it: what is put there is taken away again."""
    audit_log: Path | None = None
    """Not to be had of a cluster that we did not start."""

    def __init__(self, kubeconfig: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vllm-operator-given-"))
        self.webhook_host = os.environ.get("WEBHOOK_HOST", "127.0.0.1")
        self.kubectl = Path(shutil.which("kubectl") or build.ensure_binaries() / "kubectl")
        self.kubeconfig = self.directory / "admin.kubeconfig"
        self.authority = Authority(self.directory / "pki")
        shutil.copy(kubeconfig, self.kubeconfig)
        self._read(kubeconfig)
        self._kwok: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> GivenCluster:
        arguments = kwok_arguments(self.kubeconfig)
        selector = ["--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"]
        with (self.directory / "kwok.log").open("wb") as log:
            self._kwok = subprocess.Popen(
                [str(build.ensure_binaries() / "kwok"), *arguments, *selector],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._kwok is not None:
            self._kwok.kill()
            self._kwok.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def client_context(self) -> ssl.SSLContext:
        """Return how the administrator's requests are secured."""
        context = ssl.create_default_context(cafile=str(self._ca))
        context.load_cert_chain(self._admin.certificate, self._admin.key)
        return context

    def issue(self, name: str, *, hosts: Sequence[str]) -> KeyPair:
        """Sign a serving certificate with an authority of our own."""
        return self.authority.issue(name, common_name=name, hosts=hosts)

    def kubeconfig_for(self, name: str, *, token: str) -> Path:
        """Write a kubeconfig that authenticates with a bearer token."""
        return write_kubeconfig(self.directory, name, server=self.server, ca=self._ca, user={"token": token})

    def _read(self, kubeconfig: Path) -> None:
        """Take server and administrator's certificate from the kubeconfig's current context."""
        command = [str(self.kubectl), f"--kubeconfig={kubeconfig}", "config", "view"]
        done = subprocess.run(
            [*command, "--raw", "--minify", "--flatten", "-o", "json"], capture_output=True, text=True, check=True
        )
        view = json.loads(done.stdout)
        cluster, user = view["clusters"][0]["cluster"], view["users"][0]["user"]
        if "client-certificate-data" not in user:
            raise PlaneError(
                f"{kubeconfig}: the tests need an administrator with a client certificate, as kind makes it"
            )
        self.server: str = cluster["server"]
        self._ca = self._decoded("ca.crt", cluster["certificate-authority-data"])
        self._admin = KeyPair(
            self._decoded("admin.crt", user["client-certificate-data"]),
            self._decoded("admin.key", user["client-key-data"]),
        )

    def _decoded(self, name: str, data: str) -> Path:
        path = self.directory / f"given-{name}"
        path.touch(mode=0o600)
        path.write_bytes(base64.b64decode(data))
        return path


def given_kubeconfig() -> Path | None:
    """Return the kubeconfig that the tests are to use, None where they start their own control plane."""
    named = os.environ.get("KUBECONFIG_TEST")
    return Path(named) if named else None


__all__ = ["GivenCluster", "given_kubeconfig"]
