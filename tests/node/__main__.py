"""`python -m tests.node build|up|down|serve`: a real node by hand.

`build` builds the binaries where they are missing. `up` starts a node with its control plane in the background and
prints its kubeconfig's path, `down` ends it.
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.controlplane import build as controlplane
from tests.controlplane.background import Background, end_when_told
from tests.controlplane.build import BuildError
from tests.controlplane.promtool import promtool
from tests.node import build, machine
from tests.node.node import NodeError, RealNode

NODE = Background("tests.node", controlplane.cache_directory() / "node-up")


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
            return NODE.down()
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
    if NODE.running() is None:
        build.ensure_binaries(lambda line: print(line, file=sys.stderr))
    return NODE.up()


def serve() -> None:
    """Run a node in the foreground until SIGTERM or Ctrl-C."""
    end_when_told()
    with RealNode() as node, NODE.ready(node.kubeconfig):
        node.wait()


if __name__ == "__main__":
    raise SystemExit(main())
