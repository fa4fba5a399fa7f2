"""`python -m tests.node.inside`: process 1 of the node's namespaces.

It prepares them, starts the control plane and the node's processes, says `ready`, and then does what process 1 has to:
it collects orphans, and ends, and everything with it, as soon as one of its own processes does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.controlplane.client import Api
from tests.controlplane.plane import PlaneError
from tests.node import configuration, relay, surroundings
from tests.node.build import NodeBinaries, binaries
from tests.node.layout import API_SERVER_PORT, CONTAINERD_SOCKET, NODE_ADDRESS, NODE_NAME, READY
from tests.node.plane import NodePlane


def main() -> int:
    """Run a node until it is killed or one of its processes ends."""
    directory, listener, cgroup, *images = sys.argv[1:]
    plane = NodePlane(directory=Path(directory))
    try:
        surroundings.prepare(plane.directory)
        relay.serve(socket.socket(fileno=int(listener)), ("127.0.0.1", API_SERVER_PORT))
        start(plane, binaries(), cgroup, [Path(image) for image in images])
    except (PlaneError, subprocess.CalledProcessError) as error:
        print(f"{error}\n{getattr(error, 'stderr', None) or ''}".strip(), flush=True)
        return 1
    print(READY, flush=True)
    return look_after(plane)


def start(plane: NodePlane, found: NodeBinaries, cgroup: str, images: list[Path]) -> None:
    """Start everything and return once the node is Ready.

    Raises:
        PlaneError: a process ended or is not ready in time.
        subprocess.CalledProcessError: an image could not be imported.
    """
    os.environ.update(PATH=found.search_path, LD_LIBRARY_PATH=found.library_path)
    configure(plane.directory, found)
    plane.spawn("containerd", found.programs, [f"--config={plane.directory / 'containerd.toml'}"])
    plane.start_server()
    plane.write_kubeconfig_of_the_machine(int(plane.directory.joinpath("port").read_text()))
    plane.start_controllers()
    plane.await_file("containerd", CONTAINERD_SOCKET)
    for image in images:
        import_image(found, image)
    start_kubelet(plane, found, cgroup)
    start_kube_proxy(plane, found)
    api = Api(plane)
    plane.await_answer("kube-controller-manager", "/api/v1/namespaces/default/serviceaccounts/default")
    plane.await_answer("kubelet", f"/api/v1/nodes/{NODE_NAME}")
    api.wait("Node", NODE_NAME, is_ready, seconds=60)
    plane.await_answer("kubelet", f"/api/v1/nodes/{NODE_NAME}/proxy/healthz")
    plane.await_port("kube-proxy", NODE_ADDRESS, 10256)


def configure(directory: Path, found: NodeBinaries) -> None:
    """Write the configuration of containerd and of the pods' network."""
    (directory / "containerd.toml").write_text(configuration.containerd(found, directory))
    (directory / "cni").mkdir()
    (directory / "cni" / "pods.conflist").write_text(configuration.network())


def import_image(found: NodeBinaries, archive: Path) -> None:
    """Give containerd an image from an OCI archive.

    Raises:
        subprocess.CalledProcessError: containerd refused it.
    """
    subprocess.run([*ctr(found), "images", "import", str(archive)], check=True, capture_output=True, text=True)


def ctr(found: NodeBinaries) -> list[str]:
    """Return the beginning of containerd's own commands, in the namespace that the kubelet uses."""
    return [str(found.programs / "ctr"), f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io"]


def start_kubelet(plane: NodePlane, found: NodeBinaries, cgroup: str) -> None:
    """Start the kubelet with a certificate as nodes have it."""
    kubeconfig = plane.client_kubeconfig("kubelet", common_name=f"system:node:{NODE_NAME}", groups=["system:nodes"])
    path = plane.directory / "kubelet.yaml"
    path.write_text(configuration.kubelet(plane.directory, client_ca=plane.authority.certificate, cgroup=cgroup))
    arguments = [
        f"--config={path}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={plane.directory / 'kubelet'}",
        f"--cert-dir={plane.directory / 'kubelet-pki'}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_ADDRESS}",
    ]
    plane.spawn("kubelet", found.programs, arguments)


def start_kube_proxy(plane: NodePlane, found: NodeBinaries) -> None:
    """Start kube-proxy, which makes Services' addresses work by nftables."""
    kubeconfig = plane.client_kubeconfig("kube-proxy", common_name="system:kube-proxy")
    path = plane.directory / "kube-proxy.yaml"
    path.write_text(configuration.kube_proxy(kubeconfig))
    plane.spawn("kube-proxy", found.programs, [f"--config={path}"])


def is_ready(node: dict[str, object]) -> bool:
    """Return whether pods can run on a node."""
    status = node.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def look_after(plane: NodePlane) -> int:
    """Collect orphans until one of our own processes ends; return what the node's end is worth."""
    own = {process.pid: name for name, process in plane.processes.items()}
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return 1
        if ended is None:
            time.sleep(1)
        elif ended.si_pid in own:
            print(f"{own[ended.si_pid]} ended with {ended.si_status}", flush=True)
            return 1
        else:
            os.waitpid(ended.si_pid, 0)


if __name__ == "__main__":
    raise SystemExit(main())
