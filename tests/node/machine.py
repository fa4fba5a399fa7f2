"""What a machine must offer before a node can run on it; nothing is changed while looking."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")
"""The kubelet and runc make a pod's cgroup in each of these."""
OPTIONAL_CONTROLLERS = ("hugetlb", "net_cls", "net_prio", "perf_event", "rdma", "systemd", "unified")
UNSHARE = ("unshare", "--mount", "--propagation=private", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc")
COMMANDS = ("unshare", "ip", "mount")
OTHERWISE = "on such a machine use kind, where Docker is: `make e2e-kind`"


def hindrances() -> list[str]:
    """Return why no node can run here, one fact each; empty where one can."""
    if sys.platform != "linux":
        return [f"a node needs Linux, and this is {sys.platform}"]
    if os.geteuid() != 0:
        return ["a node needs root: namespaces, mounts and cgroups are made"]
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        return [f"{', '.join(missing)} not found: install util-linux and iproute2"]
    return [*_namespace_hindrances(), *_cgroup_hindrances(), *_kernel_hindrances()]


def _namespace_hindrances() -> list[str]:
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return [] if tried.returncode == 0 else [f"namespaces cannot be made: {tried.stderr.strip()}"]


def _cgroup_hindrances() -> list[str]:
    if (CGROUPS / "cgroup.controllers").exists():
        return ["this node is tried on cgroup v1 alone, and the machine has version 2"]
    missing = [name for name in CONTROLLERS if not os.access(CGROUPS / name / "cgroup.procs", os.W_OK)]
    return [f"no cgroup can be made for {', '.join(missing)} below {CGROUPS}"] if missing else []


def _kernel_hindrances() -> list[str]:
    found = []
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        found.append("the kernel has no overlay file system")
    if not Path("/dev/kmsg").exists():
        found.append("/dev/kmsg is missing, and the kubelet reads it")
    return found
