"""The operator beside a real node: a process in the node's network, as the chart's ServiceAccount."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.controlplane.plane import die_with_parent, service_account_token
from tests.controlplane.scene import NAMESPACE, SERVICE_ACCOUNT, Scene
from tests.node.layout import API_SERVER_PORT
from tests.node.network import request

if TYPE_CHECKING:
    from tests.node.node import RealNode


class NodeScene(Scene):
    """The chart's objects on a real node, and one operator process that reaches pods as one in a pod would."""

    plane: RealNode

    def install(self) -> None:
        """Apply the CRD and the chart's RBAC, and give the operator a way to the API server from the node's network."""
        super().install()
        token = service_account_token(self.plane, NAMESPACE, SERVICE_ACCOUNT)
        server = f"https://127.0.0.1:{API_SERVER_PORT}"
        self.operator_kubeconfig = self.plane.kubeconfig_for("operator-inside", token=token, server=server)

    def spawn_operator(self) -> None:
        """Start the operator in the node's network and wait for nothing."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.plane.inside(sys.executable, "-m", "vllm_operator", "run"),
                cwd=self.plane.directory,
                env=self._operator_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def metrics(self) -> str:
        """Return the operator's own metrics."""
        _, text = request(self.plane.pid, "GET", f"127.0.0.1:{self.http_port}", "/metrics")
        return text

    def _answers(self) -> bool:
        try:
            status, _ = request(self.plane.pid, "GET", f"127.0.0.1:{self.http_port}", "/readyz", timeout=1)
        except OSError:
            return False
        return status == 200
