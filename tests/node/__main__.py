"""`python -m tests.node build|up|down|serve`: a real node by hand.

`build` builds the binaries where they are missing. `up` starts a node with its control plane in the background and
prints its kubeconfig's path, `down` ends it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.controlplane import build as controlplane
from tests.controlplane.build import BuildError
from tests.controlplane.promtool import promtool
from tests.node import build, machine
from tests.node.node import NodeError, RealNode

STATE = controlplane.cache_directory() / "node-up"
PID_FILE = STATE / "pid"
KUBECONFIG = STATE / "kubeconfig"


def main() -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m tests.node", description=__doc__)
    parser.add_argument("command", choices=["build", "up", "down", "serve"])
    command = parser.parse_args().command
    try:
        if command == "build":
            build_what_can_run()
        elif command == "up":
            return up()
        elif command == "down":
            return down()
        else:
            serve()
    except (BuildError, NodeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def build_what_can_run() -> None:
    """Build everything; no node where the machine could not run one anyway. CI has to."""
    promtool()
    found = machine.hindrances()
    if found and not os.environ.get("CI"):
        print(f"no node can run here: {'; '.join(found)}; its tests are skipped")
        controlplane.ensure_binaries()
        return
    build.ensure_binaries()
    build.own_programs()


def up() -> int:
    """Start a node that outlives this command, and print its kubeconfig's path."""
    if running() is None:
        build.ensure_binaries(lambda line: print(line, file=sys.stderr))
        STATE.mkdir(parents=True, exist_ok=True)
        KUBECONFIG.unlink(missing_ok=True)
        log = STATE / "serve.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.node", "serve"],
                cwd=controlplane.ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        PID_FILE.write_text(str(process.pid))
        try:
            while not KUBECONFIG.exists():
                if process.poll() is not None:
                    print(log.read_text(), file=sys.stderr)
                    return 1
                time.sleep(0.05)
        except KeyboardInterrupt:
            down()
            raise
    print(KUBECONFIG)
    return 0


def down() -> int:
    """End the node that `up` started, if it runs, and return once nothing of it is left."""
    pid = running()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        while running() is not None:
            time.sleep(0.05)
    PID_FILE.unlink(missing_ok=True)
    return 0


def serve() -> None:
    """Run a node in the foreground until SIGTERM or Ctrl-C."""
    # Also SIGINT: a shell that starts this in the background has it ignored, and Python would leave it so.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with RealNode() as node:
        part = KUBECONFIG.with_suffix(".part")
        shutil.copy(node.kubeconfig, part)
        part.rename(KUBECONFIG)
        try:
            node.wait()
        finally:
            KUBECONFIG.unlink(missing_ok=True)


def running() -> int | None:
    """Return the process id of the node that `up` started, None when there is none."""
    try:
        pid = int(PID_FILE.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"tests.node" in command else None


if __name__ == "__main__":
    raise SystemExit(main())
