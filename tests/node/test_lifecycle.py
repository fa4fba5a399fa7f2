"""A node leaves nothing on the machine, however it ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.controlplane.build import ROOT
from tests.node import cgroups
from tests.node.keeper import children
from tests.node.layout import BRIDGE, NODE_ADDRESS
from tests.node.surroundings import SYSCTLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.node

GONE_WITHIN_SECONDS = 60
READY_WITHIN_SECONDS = 90


@dataclass(frozen=True)
class Node:
    """What tells the traces of one node from those of others that may run beside it."""

    keeper: int
    directory: Path
    namespace: str

    @classmethod
    def kept_by(cls, keeper: int) -> Node:
        first = _first_process(keeper)
        argv = Path(f"/proc/{keeper}/cmdline").read_bytes().split(b"\0")
        directory = Path(argv[argv.index(b"tests.node.keeper") + 1].decode())
        return cls(keeper=keeper, directory=directory, namespace=os.readlink(f"/proc/{first}/ns/pid"))

    def traces(self) -> list[str]:
        """What is there of it on the machine."""
        found = [path for path in cgroups.left() if path.endswith(cgroups.name_of(self.keeper))]
        found += [f"process {pid}" for pid in self.processes()]
        found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.directory) in line]
        found += [
            line for line in _said("ip", "-oneline", "address").splitlines() if BRIDGE in line or NODE_ADDRESS in line
        ]
        return found + [str(self.directory)] * self.directory.exists()

    def processes(self) -> list[int]:
        """Everything that runs in its namespaces."""
        return [
            int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _link(folder / "ns/pid") == self.namespace
        ]


def _first_process(keeper: int) -> int:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        for unshare in children(keeper):
            for first in children(unshare):
                if _runs(first, "tests.node.inside"):
                    return first
        time.sleep(0.01)
    raise AssertionError("the keeper has made no namespaces")


def _runs(pid: int, name: str) -> bool:
    try:
        return name in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _settings() -> dict[str, str]:
    """Settings of the kernel that kubelet, kube-proxy or a bridge would change."""
    names = ("net/ipv4/ip_forward", *SYSCTLS)
    return {name: (Path("/proc/sys") / name).read_text().strip() for name in names}


@contextmanager
def a_node_by_hand(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that starts a node, in a group of its own as a shell would make it."""
    # Where `make node-up` keeps its state is not for tests to touch, and what is built has to be found.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    (tmp_path / "vllm-operator").mkdir()
    for folder in (cache / "vllm-operator").iterdir():
        if folder.name != "node-up":
            (tmp_path / "vllm-operator" / folder.name).symlink_to(folder)
    (tmp_path / "vllm-operator" / "node-up").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.node", "serve"],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'operator'}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _until(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while not holds():
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        assert time.monotonic() < deadline, "the node is not ready"
        time.sleep(0.02)


def _keeper(process: subprocess.Popen[bytes]) -> int:
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [pid for pid in children(process.pid) if _runs(pid, "tests.node.keeper")]
        return bool(found)

    _until(is_there, process)
    return found[0]


@contextmanager
def the_end_of(pid: int) -> Iterator[None]:
    """What happens within ends a process that is not our child; returns once it is gone."""
    descriptor = os.pidfd_open(pid)
    try:
        yield
        ready, _, _ = select.select([descriptor], [], [], GONE_WITHIN_SECONDS)
        assert ready, f"process {pid} is still there after {GONE_WITHIN_SECONDS} s"
    finally:
        os.close(descriptor)


def test_ctrl_c_leaves_nothing(node_machine: None, tmp_path: Path) -> None:
    before = _settings()
    with a_node_by_hand(tmp_path) as process:
        _until((tmp_path / "vllm-operator" / "node-up" / "kubeconfig").exists, process)
        node = Node.kept_by(_keeper(process))
        assert len(node.processes()) > len(("python", "etcd", "kube-apiserver", "containerd", "kubelet", "kube-proxy"))
        os.killpg(process.pid, signal.SIGINT)
        process.wait(GONE_WITHIN_SECONDS)
    assert node.traces() == []
    assert _settings() == before


def test_its_user_may_be_killed_while_it_starts(node_machine: None, tmp_path: Path) -> None:
    with a_node_by_hand(tmp_path) as process:
        node = Node.kept_by(_keeper(process))
        assert node.traces() != []
        with the_end_of(node.keeper):
            process.kill()
    assert node.traces() == []


def test_a_dead_component_ends_it_with_a_word(node_machine: None, tmp_path: Path) -> None:
    with a_node_by_hand(tmp_path) as process:
        node = Node.kept_by(_keeper(process))
        _until(lambda: any(_runs(pid, "kube-apiserver") for pid in node.processes()), process)
        (etcd,) = [pid for pid in node.processes() if _runs(pid, "/etcd\0")]
        with the_end_of(node.keeper):
            os.kill(etcd, signal.SIGKILL)
        _, said = process.communicate(timeout=GONE_WITHIN_SECONDS)
        assert process.returncode == 1
        assert "etcd ended with" in said.decode()
    assert node.traces() == []


def test_the_cgroups_of_a_keeper_that_was_killed_are_removed_later(node_machine: None) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    name = cgroups.name_of(gone.pid)
    cgroups.create(name)
    cgroups.remove_abandoned()
    assert not [path for path in cgroups.left() if path.endswith(name)]
