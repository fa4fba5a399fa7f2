"""The chart as a user handles it: Helm and kubectl against the real node."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.controlplane.tools import CHART, helm

if TYPE_CHECKING:
    from tests.node.node import RealNode

NAME = "vllm-operator"
NAMESPACE = "vllm-operator"


@dataclass(frozen=True)
class Release:
    """One release of the chart with default values, in a namespace that enforces Pod Security `restricted`."""

    node: RealNode

    def create_namespace(self) -> None:
        """Make the namespace that the release goes into."""
        self.kubectl("create", "namespace", NAMESPACE)
        self.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")

    def helm(self, *arguments: str) -> str:
        """Run Helm on the release and return what it printed."""
        given = [f"--kubeconfig={self.node.kubeconfig}", f"--namespace={NAMESPACE}"]
        return _said(str(helm()), *arguments, *given)

    def install(self) -> str:
        """Install the chart as it is, and wait until its pod is ready."""
        return self.helm("install", NAME, str(CHART), "--wait", "--timeout=2m")

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl as the administrator and return what it printed."""
        return _said(str(self.node.kubectl), f"--kubeconfig={self.node.kubeconfig}", *arguments)

    def log(self) -> str:
        """Return the operator's log."""
        return self.kubectl("logs", f"--namespace={NAMESPACE}", f"deployment/{NAME}", "--tail=100")


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, f"{' '.join(command[1:4])}: {done.stdout}\n{done.stderr}"
    return done.stdout
