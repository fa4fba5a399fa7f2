"""A program of this test tree that outlives the command that starts it, and says by a kubeconfig that it is ready."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from typing import TYPE_CHECKING

from tests.controlplane.build import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Background:
    """`python -m MODULE serve`, of which there is one at a time; `state` is where its files are."""

    module: str
    state: Path

    @property
    def kubeconfig(self) -> Path:
        """Where the administrator's kubeconfig is while it is ready."""
        return self.state / "kubeconfig"

    def up(self) -> int:
        """Start it if it does not run, wait until it is ready, and print its kubeconfig's path."""
        if self.running() is None:
            self.state.mkdir(parents=True, exist_ok=True)
            self.kubeconfig.unlink(missing_ok=True)
            log = self.state / "serve.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", self.module, "serve"],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._pid_file.write_text(str(process.pid))
            try:
                while not self.kubeconfig.exists():
                    if process.poll() is not None:
                        print(log.read_text(), file=sys.stderr)
                        return 1
                    time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                self.down()
                raise
        print(self.kubeconfig)
        return 0

    def down(self) -> int:
        """End it, if it runs, and return once nothing of it is left."""
        pid = self.running()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            while self.running() is not None:
                time.sleep(POLL_SECONDS)
        self._pid_file.unlink(missing_ok=True)
        return 0

    @contextmanager
    def ready(self, kubeconfig: Path) -> Iterator[None]:
        """Say that it is ready for as long as the context lasts."""
        part = self.kubeconfig.with_suffix(".part")
        copy(kubeconfig, part)
        part.rename(self.kubeconfig)
        try:
            yield
        finally:
            self.kubeconfig.unlink(missing_ok=True)

    def running(self) -> int | None:
        """Return the process id, None where it does not run."""
        try:
            pid = int(self._pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if self.module.encode() in command else None

    @property
    def _pid_file(self) -> Path:
        return self.state / "pid"


def end_when_told() -> None:
    """Have SIGTERM and Ctrl-C end the program in order.

    Also SIGINT: a shell that starts this in the background has it ignored, and Python would leave it so.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
