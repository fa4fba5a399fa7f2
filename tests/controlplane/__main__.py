"""`python -m tests.controlplane build|up|down|serve|demo`: the control plane by hand.

`build` builds the binaries, and promtool, where they are missing. `up` starts the plane in the background and prints
its kubeconfig's path, `down` ends it. `demo` is in `tests.controlplane.demo`.
"""

from __future__ import annotations

import argparse
import signal
import sys

from tests.controlplane import build
from tests.controlplane.background import Background, end_when_told
from tests.controlplane.plane import ControlPlane, PlaneError
from tests.controlplane.promtool import promtool

PLANE = Background("tests.controlplane", build.cache_directory() / "plane")


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
            return PLANE.down()
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
    if PLANE.running() is None:
        build.ensure_binaries(lambda line: print(line, file=sys.stderr))
    return PLANE.up()


def serve() -> None:
    """Run a plane in the foreground until SIGTERM or Ctrl-C."""
    end_when_told()
    with ControlPlane() as plane, PLANE.ready(plane.kubeconfig):
        signal.pause()


if __name__ == "__main__":
    raise SystemExit(main())
