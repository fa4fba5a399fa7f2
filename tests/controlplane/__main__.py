"""`python -m tests.controlplane build|up|down|serve|demo`: the control plane by hand.

`build` builds the binaries, and promtool, where they are missing. `up` starts the plane in the background and prints
its kubeconfig's path, `down` ends it. `demo` is in `tests.controlplane.demo`.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.controlplane import build
from tests.controlplane.plane import ControlPlane, PlaneError
from tests.controlplane.promtool import promtool

STATE = build.cache_directory() / "plane"
PID_FILE = STATE / "pid"


def main() -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m tests.controlplane", description=__doc__)
    parser.add_argument("command", choices=["build", "up", "down", "serve", "demo"])
    command = parser.parse_args().command
    try:
        if command == "build":
            build.ensure_binaries()
            promtool()
        elif command == "up":
            return up()
        elif command == "down":
            return down()
        elif command == "serve":
            serve()
        else:
            from tests.controlplane.demo import run_demo

            return run_demo()
    except (build.BuildError, PlaneError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def up() -> int:
    """Start a plane that outlives this command, and print its kubeconfig's path."""
    if running() is not None:
        print(kubeconfig())
        return 0
    build.ensure_binaries(lambda line: print(line, file=sys.stderr))
    STATE.mkdir(parents=True, exist_ok=True)
    kubeconfig().unlink(missing_ok=True)
    with (STATE / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.controlplane", "serve"],
            cwd=build.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    PID_FILE.write_text(str(process.pid))
    while not kubeconfig().exists():
        if process.poll() is not None:
            print((STATE / "serve.log").read_text(), file=sys.stderr)
            return 1
        time.sleep(0.1)
    print(kubeconfig())
    return 0


def down() -> int:
    """End the plane that `up` started, if it runs."""
    pid = running()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        while running() is not None:
            time.sleep(0.1)
    PID_FILE.unlink(missing_ok=True)
    return 0


def serve() -> None:
    """Run a plane in the foreground until SIGTERM or Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ControlPlane() as plane:
        part = kubeconfig().with_suffix(".part")
        part.write_text(plane.kubeconfig.read_text())
        part.rename(kubeconfig())
        try:
            signal.pause()
        finally:
            kubeconfig().unlink(missing_ok=True)


def kubeconfig() -> Path:
    """Return where `up` leaves the administrator's kubeconfig."""
    return STATE / "kubeconfig"


def running() -> int | None:
    """Return the process id of the plane that `up` started, None when there is none."""
    try:
        pid = int(PID_FILE.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"tests.controlplane" in command else None


if __name__ == "__main__":
    raise SystemExit(main())
