"""The control plane of a real node: reached from pods, and able to reach the kubelet and Services' addresses."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from tests.controlplane import build
from tests.controlplane.plane import ControlPlane, PlaneError, write_kubeconfig
from tests.node.layout import API_SERVER_PORT, NODE_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class NodePlane(ControlPlane):
    """A control plane inside the node's namespaces: no KWOK, and addresses that pods can use.

    The administrator's kubeconfig in its directory is for the processes beside it.
    """

    def start_server(self) -> None:
        """Start etcd and the API server and return once it answers."""
        binaries = build.ensure_binaries()
        self._prepare()
        self._spawn("etcd", binaries, self._etcd_arguments())
        self._spawn("kube-apiserver", binaries, self._apiserver_arguments())
        self._wait("kube-apiserver", self.server + "/readyz")

    def start_controllers(self) -> None:
        """Start the controller manager and the scheduler; waits for neither."""
        binaries = build.ensure_binaries()
        self._spawn("kube-controller-manager", binaries, self._controller_manager_arguments())
        self._spawn("kube-scheduler", binaries, self._scheduler_arguments())

    def spawn(self, name: str, binaries: Path, arguments: Sequence[str]) -> None:
        """Start one of the node's own processes beside the plane's."""
        self._spawn(name, binaries, arguments)

    def await_file(self, name: str, path: Path, *, seconds: float = 30) -> None:
        """Wait until a process has made a file.

        Raises:
            PlaneError: a process ended, or the file is not there in time.
        """
        deadline = time.monotonic() + seconds
        while not path.exists():
            self._check_alive()
            if time.monotonic() > deadline:
                raise PlaneError(f"{name} has not made {path} after {seconds} s")
            time.sleep(0.02)

    def await_answer(self, name: str, path: str) -> None:
        """Wait until the API server answers a path.

        Raises:
            PlaneError: a process ended, or there is no answer in time.
        """
        self._wait(name, self.server + path)

    def await_port(self, name: str, host: str, port: int, *, seconds: float = 30) -> None:
        """Wait until somebody listens on a port.

        Raises:
            PlaneError: a process ended, or nobody does in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            self._check_alive()
            try:
                socket.create_connection((host, port), timeout=1).close()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise PlaneError(f"{name} does not listen on port {port} after {seconds} s") from error
                time.sleep(0.05)
            else:
                return

    def client_kubeconfig(self, name: str, *, common_name: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig that authenticates with a certificate of the plane's authority."""
        pair = self.authority.issue(name, common_name=common_name, groups=groups)
        return self._kubeconfig(name, {"client-certificate": str(pair.certificate), "client-key": str(pair.key)})

    def write_kubeconfig_of_the_machine(self, port: int) -> None:
        """Write the administrator's kubeconfig for processes outside, where a port leads to the API server."""
        user = {"client-certificate": str(self.admin.certificate), "client-key": str(self.admin.key)}
        server, ca = f"https://127.0.0.1:{port}", self.authority.certificate
        write_kubeconfig(self.directory, "outside", server=server, ca=ca, user=user)

    def _prepare(self) -> None:
        super()._prepare()
        # The network is the node's own: the usual port is free, and pods reach it on the node's address.
        self.ports = {**self.ports, "apiserver": API_SERVER_PORT}
        self.server = f"https://127.0.0.1:{API_SERVER_PORT}"
        self._kubeconfig(
            "admin", {"client-certificate": str(self.admin.certificate), "client-key": str(self.admin.key)}
        )
        hosts = ("localhost", "127.0.0.1", NODE_ADDRESS, "10.0.0.1", "kubernetes", "kubernetes.default.svc")
        self.serving = self.authority.issue("apiserver", common_name="kube-apiserver", hosts=hosts)
        self.kubelet_client = self.authority.issue(
            "apiserver-kubelet", common_name="kube-apiserver-kubelet-client", groups=["system:masters"]
        )

    def _apiserver_arguments(self) -> list[str]:
        replaced = ("--bind-address", "--advertise-address", "--endpoint-reconciler-type")
        kept = [argument for argument in super()._apiserver_arguments() if not argument.startswith(replaced)]
        return [
            *kept,
            "--bind-address=0.0.0.0",
            f"--advertise-address={NODE_ADDRESS}",
            f"--kubelet-client-certificate={self.kubelet_client.certificate}",
            f"--kubelet-client-key={self.kubelet_client.key}",
            "--kubelet-preferred-address-types=InternalIP",
        ]
