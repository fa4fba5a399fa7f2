"""`python -m tests.node.keeper DIRECTORY SOCKET IMAGE…`: holds a node's namespaces and removes every trace of them.

It runs in a session of its own, so that no Ctrl-C reaches it, and ends when its standard input does: whoever started
the node may exit, fail or be killed, and the node goes. What the node says comes out of standard output.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.node import cgroups
from tests.node.machine import UNSHARE

ENDED_WITHIN_SECONDS = 60
"""Servers with gigabytes of memory take their time to be torn down on a busy machine."""


def main() -> int:
    """Keep a node until nobody wants it any more."""
    directory, listener, *images = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    cgroups.remove_abandoned()
    cgroup = cgroups.name_of(os.getpid())
    node: subprocess.Popen[bytes] | None = None
    try:
        cgroups.create(cgroup)
        node = subprocess.Popen(
            [
                *UNSHARE,
                "--kill-child=KILL",
                sys.executable,
                "-m",
                "tests.node.inside",
                directory,
                listener,
                cgroup,
                *images,
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=[int(listener)],
        )
        _wait_for_either(node.pid)
    finally:
        try:
            if node is not None:
                _end(node)
            cgroups.remove(cgroup)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    return 0


def _wait_for_either(pid: int) -> None:
    """Return once standard input has ended or the process has."""
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(0, select.POLLIN | select.POLLHUP)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if ended in ready or os.read(0, 1) == b"":
            break
    os.close(ended)


def _end(node: subprocess.Popen[bytes]) -> None:
    """Kill process 1 of the namespace, and with it, by the kernel, every other one there."""
    for child in children(node.pid):
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    try:
        node.wait(ENDED_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


if __name__ == "__main__":
    raise SystemExit(main())
