"""What process 1 of the namespaces makes before anything runs: mounts, sysctls' stand-ins, and the network."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from tests.node.layout import BRIDGE, NODE_ADDRESS, NODE_NAME, POD_GATEWAY, SERVICE_NETWORK

SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""Settings of the whole machine that the kubelet would write: it finds files that hold what it wants."""
COPIED = ("/etc", "/var/lib")
"""Written to by the node's processes: what they write lands in the node's directory."""


def prepare(directory: Path) -> None:
    """Make the namespaces a machine of their own; the real one is not touched.

    Raises:
        subprocess.CalledProcessError: a mount or an address was refused.
    """
    socket.sethostname(NODE_NAME)
    _mount("--make-rprivate", "/")
    for path in COPIED:
        _overlay(path, directory / "overlays" / path.strip("/").replace("/", "-"))
    _mount("-t", "tmpfs", "tmpfs", "/run")
    logs = directory / "var-log"
    logs.mkdir()
    _mount("--bind", str(logs), "/var/log")
    _stand_in_for_sysctls(directory / "sysctls")
    Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{NODE_ADDRESS} {NODE_NAME}\n")
    (directory / "resolv.conf").write_text("")
    # Mounts that the kubelet makes have to show in containers.
    _mount("--make-rshared", "/")
    _network()


def _overlay(path: str, folder: Path) -> None:
    for name in ("upper", "work"):
        (folder / name).mkdir(parents=True)
    options = f"lowerdir={path},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    _mount("-t", "overlay", "overlay", "-o", options, path)


def _stand_in_for_sysctls(folder: Path) -> None:
    folder.mkdir()
    for name, value in SYSCTLS.items():
        stand_in = folder / name.replace("/", "-")
        stand_in.write_text(f"{value}\n")
        _mount("--bind", str(stand_in), f"/proc/sys/{name}")


def _network() -> None:
    _ip("link", "set", "lo", "up")
    _ip("address", "add", f"{NODE_ADDRESS}/32", "dev", "lo")
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "add", POD_GATEWAY, "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    # A Service's address has to have a way out before kube-proxy's rules turn it into a pod's.
    _ip("route", "add", SERVICE_NETWORK, "dev", BRIDGE, "src", NODE_ADDRESS)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
