"""The whole stage: a plane with GPU nodes, the chart's objects on it, and the operator as its ServiceAccount."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from tests.controlplane.build import ROOT
from tests.controlplane.client import Api
from tests.controlplane.plane import die_with_parent, free_ports, service_account_token, still_free

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.controlplane.given import GivenCluster
    from tests.controlplane.plane import ControlPlane
    from tests.node.node import RealNode

EXAMPLES = ROOT / "manifests" / "examples"
NODES = EXAMPLES / "nodes.yaml"
INSTALL = ROOT / "manifests" / "install.yaml"
CRD = "vllmdeployments.vllm-operator.io"
NAMESPACE = "vllm-operator"
SERVICE_ACCOUNT = "vllm-operator"
READY_WITHIN_SECONDS = 30
APPLIED_KINDS = frozenset(
    {
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "CustomResourceDefinition",
        "Lease",
        "Namespace",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    }
)
"""What of the chart is applied as it is; its Deployment is replaced by a process, its webhook points to that."""


class SceneError(Exception):
    """The operator did not start, or a command failed; the message holds what it said."""


@dataclass
class Scene:
    """One plane, the chart's objects, and at most one operator process."""

    plane: ControlPlane | GivenCluster | RealNode
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further environment of the operator."""
    name: str = "vllm-operator-0"
    """Name of the operator's pod; a second operator needs another one."""
    process: subprocess.Popen[bytes] | None = None
    installed: bool = False

    def __post_init__(self) -> None:
        self.api = Api(self.plane)
        self.http_port, self.webhook_port = free_ports(2)
        self.log: Path = self.plane.directory / f"{self.name}.log"

    def install(self) -> None:
        """Apply the CRD and the chart's RBAC, and make what the operator will be given: certificate and token.

        Raises:
            SceneError: the cluster is somebody's, and has the operator already.
        """
        if not self.plane.disposable and self.api.find("CustomResourceDefinition", CRD) is not None:
            raise SceneError(f"this cluster has the CRD {CRD} already: what is tried here would delete it in the end")
        self.installed = True
        self.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump_all(_installed()))
        self.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=30s")
        certificate = self.plane.issue("webhook", hosts=[self.plane.webhook_host])
        self.certificates = self.plane.directory / "webhook-tls"
        self.certificates.mkdir(exist_ok=True)
        (self.certificates / "tls.crt").write_bytes(certificate.certificate.read_bytes())
        (self.certificates / "tls.key").write_bytes(certificate.key.read_bytes())
        token = service_account_token(self.plane, NAMESPACE, SERVICE_ACCOUNT)
        self.operator_kubeconfig = self.plane.kubeconfig_for("operator", token=token)

    def install_webhook(self) -> None:
        """Apply the chart's webhook configuration; only its address is changed, from a Service to this machine."""
        self.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump(self._webhook()))

    def remove_webhook(self) -> None:
        """Take the webhook configuration away."""
        name = self._webhook()["metadata"]["name"]
        self.kubectl("delete", "validatingwebhookconfiguration", name, "--ignore-not-found", "--wait=true")

    def add_nodes(self) -> None:
        """Create the fake GPU nodes and wait until KWOK keeps them Ready."""
        self.kubectl("apply", "-f", str(NODES))
        self.kubectl("wait", "--for=condition=Ready", "-f", str(NODES), "--timeout=30s")

    def replica(self, name: str, *, kubeconfig: Path | None = None) -> Scene:
        """Return another operator of this cluster, with ports and a log of its own; it is not started.

        `kubeconfig` is its way to the API server, where that is not the usual one.
        """
        other = Scene(self.plane, environment=self.environment, name=name)
        other.certificates = self.certificates
        other.operator_kubeconfig = kubeconfig or self.operator_kubeconfig
        return other

    def start_operator(self) -> None:
        """Start the operator as the chart's ServiceAccount and wait until it is ready.

        Raises:
            SceneError: it ended, or is not ready in time.
        """
        self.spawn_operator()
        self.wait_until_ready()

    def spawn_operator(self) -> None:
        """Start the operator and wait for nothing."""
        # Somebody's connection may have taken a port meanwhile, when the operator has not run for a while.
        self.http_port, self.webhook_port = (still_free(port) for port in (self.http_port, self.webhook_port))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vllm_operator", "run"],
                cwd=self.plane.directory,
                env=self._operator_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def wait_until_ready(self, *, seconds: float = READY_WITHIN_SECONDS) -> None:
        """Wait until the operator answers that it is ready.

        Raises:
            SceneError: it ended, or is not ready in time.
        """
        assert self.process is not None, "no operator is running"
        deadline = time.monotonic() + seconds
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SceneError(f"the operator is not ready:\n{self.operator_log()[-4000:]}")
            time.sleep(0.05)

    def stop_operator(self, *, kill: bool = False) -> int:
        """End the operator by SIGTERM (or at once) and return its exit code."""
        process, self.process = self.process, None
        assert process is not None, "no operator is running"
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            return process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise SceneError(f"the operator did not stop within 15 s:\n{self.operator_log()[-4000:]}") from None

    def pause_operator(self) -> None:
        """Hold the operator up, as a starved node would: it does not know that time passes."""
        assert self.process is not None, "no operator is running"
        self.process.send_signal(signal.SIGSTOP)

    def resume_operator(self) -> None:
        """Let it go on."""
        assert self.process is not None, "no operator is running"
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the operator if it still runs, and leave a cluster that others use as it was."""
        if self.process is not None:
            self.stop_operator(kill=True)
        if self.installed and not self.plane.disposable:
            self.remove_webhook()
            self.kubectl("delete", "--ignore-not-found", "-f", str(NODES))
            self.kubectl("delete", "--ignore-not-found", "-f", "-", text=yaml.safe_dump_all(_installed()))
            self.installed = False

    def operator_log(self) -> str:
        """Return everything that the operator has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator.

        Raises:
            SceneError: it failed, unless `check` is false.
        """
        done = subprocess.run(
            [str(self.plane.kubectl), f"--kubeconfig={self.plane.kubeconfig}", *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise SceneError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def metrics(self) -> str:
        """Return the operator's own metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=5) as response:
            text: str = response.read().decode()
            return text

    def _operator_environment(self) -> dict[str, str]:
        # The chart's own environment, and of the caller's no more than a process needs.
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
        return {
            **kept,
            **_chart_environment(),
            "HOME": str(self.plane.directory),
            "HF_HOME": str(self.plane.directory / "hf"),
            "KUBECONFIG": str(self.operator_kubeconfig),
            "PYTHONPATH": str(ROOT / "operator"),
            "VLLM_OPERATOR_HTTP_HOST": "127.0.0.1",
            "VLLM_OPERATOR_HTTP_PORT": str(self.http_port),
            "VLLM_OPERATOR_WEBHOOK_HOST": self.plane.webhook_host,
            "VLLM_OPERATOR_WEBHOOK_PORT": str(self.webhook_port),
            "VLLM_OPERATOR_WEBHOOK_CERT_DIR": str(self.certificates),
            "VLLM_OPERATOR_NAMESPACE": NAMESPACE,
            "VLLM_OPERATOR_POD_NAME": self.name,
            **self.environment,
        }

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=1):
                return True
        except (OSError, urllib.error.URLError):
            return False

    def _webhook(self) -> dict[str, Any]:
        (webhook,) = (document for document in _chart() if document["kind"] == "ValidatingWebhookConfiguration")
        for entry in webhook["webhooks"]:
            path = entry["clientConfig"]["service"]["path"]
            entry["clientConfig"] = {
                "url": f"https://{self.plane.webhook_host}:{self.webhook_port}{path}",
                "caBundle": _base64(self.plane.authority.certificate),
            }
        return webhook


def _chart() -> list[dict[str, Any]]:
    return [document for document in yaml.load_all(INSTALL.read_text(), yaml.CSafeLoader) if document]


def _installed() -> list[dict[str, Any]]:
    return [document for document in _chart() if document["kind"] in APPLIED_KINDS]


def _chart_environment() -> dict[str, str]:
    """Return the variables that the chart's container gets; those that depend on its pod are ours to set."""
    (deployment,) = (document for document in _chart() if document["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
