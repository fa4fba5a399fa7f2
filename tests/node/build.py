"""Builds what a node needs, once: kubelet, kube-proxy, containerd, network plugins, and the programs of our images.

All of it comes from Go modules that `go.sum` verifies, but runc and nft, which are C: those two are Debian's packages,
verified by apt and unpacked beside the rest, so that nothing is installed on the machine. The result lives in the
user's cache directory under a hash of everything that it depends on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.controlplane import build as controlplane
from tests.controlplane.build import BuildError, cache_directory, find_go, go_build, only_one

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
KUBERNETES_COMMANDS = ("k8s.io/kubernetes/cmd/kubelet", "k8s.io/kubernetes/cmd/kube-proxy")
"""Tools of the control plane's module: one version of Kubernetes for all."""
NODE_COMMANDS = (
    "github.com/containerd/containerd/v2/cmd/containerd",
    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    "github.com/containerd/containerd/v2/cmd/ctr",
    "github.com/containernetworking/plugins/plugins/ipam/host-local",
    "github.com/containernetworking/plugins/plugins/main/bridge",
    "github.com/containernetworking/plugins/plugins/main/loopback",
)
OWN_PROGRAMS = ("pause", "standin")
"""Our own, for the images: process 1 of each pod, and what stands for vLLM."""
DEBIAN_PACKAGES = (
    "runc",
    "libseccomp2",
    "nftables",
    "libnftables1",
    "libnftnl11",
    "libmnl0",
    "libjansson4",
    "libedit2",
    "libbsd0",
    "libmd0",
    "libtinfo6",
    "libxtables12",
)
"""runc and nft with the libraries that a minimal Debian may lack."""


@dataclass(frozen=True)
class NodeBinaries:
    """Where everything is, once built."""

    directory: Path

    @property
    def programs(self) -> Path:
        """What was built."""
        return self.directory / "bin"

    @property
    def debian(self) -> Path:
        """The root that Debian's packages were unpacked into."""
        return self.directory / "debian"

    @property
    def runc(self) -> Path:
        """runc, with seccomp."""
        return self.debian / "usr" / "sbin" / "runc"

    @property
    def search_path(self) -> str:
        """PATH for the node's processes."""
        return os.pathsep.join([str(self.programs), str(self.debian / "usr" / "sbin"), os.environ.get("PATH", "")])

    @property
    def library_path(self) -> str:
        """LD_LIBRARY_PATH for runc and nft."""
        found = [*self.debian.glob("usr/lib/*-linux-gnu"), *self.debian.glob("lib/*-linux-gnu")]
        return os.pathsep.join(str(path) for path in found)

    def are_complete(self) -> bool:
        """Return whether nothing is missing."""
        names = [command.rsplit("/", 1)[1] for command in (*KUBERNETES_COMMANDS, *NODE_COMMANDS)]
        return self.runc.is_file() and all((self.programs / name).is_file() for name in names)


def fingerprint() -> str:
    """Return the hash of all that the binaries depend on."""
    digest = hashlib.sha256(" ".join((controlplane.fingerprint(), *DEBIAN_PACKAGES, *NODE_COMMANDS)).encode())
    return _with_files(digest, "go.mod", "go.sum")


def _with_files(digest: hashlib._Hash, *names: str) -> str:
    for name in names:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:16]


def binaries() -> NodeBinaries:
    """Return where the binaries are, or will be once built."""
    return NodeBinaries(cache_directory() / "node" / fingerprint())


def ensure_binaries(say: Callable[[str], None] = print) -> NodeBinaries:
    """Return the binaries; build them first where they are missing. A second caller waits for the first.

    Raises:
        BuildError: Go or apt is missing, or a step failed.
    """
    controlplane.ensure_binaries(say)
    found = binaries()
    if found.are_complete():
        return found
    found.directory.parent.mkdir(parents=True, exist_ok=True)
    with only_one(found.directory.with_suffix(".lock"), say):
        if not found.are_complete():
            _build(found.directory, say)
    return found


def own_programs(say: Callable[[str], None] = print) -> Path:
    """Return the directory of our own static programs; compile them first where they have changed.

    Raises:
        BuildError: Go is missing, or a program does not compile.
    """
    sources = [f"{name}/main.go" for name in OWN_PROGRAMS]
    target = cache_directory() / "node" / f"programs-{_with_files(hashlib.sha256(), *sources)}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with only_one(target.with_suffix(".lock"), say):
        if not target.is_dir():
            part = target.with_suffix(".part")
            packages = [f"./{name}" for name in OWN_PROGRAMS]
            go_build(
                find_go(say), HERE, ["-ldflags", "-s -w", "-o", f"{part}/", *packages], "the images' programs", say
            )
            part.rename(target)
    return target


def _build(target: Path, say: Callable[[str], None]) -> None:
    go = find_go(say)
    started = time.monotonic()
    say("building a node from source, once: 2 to 4 minutes on two cores")
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "bin").mkdir(parents=True)
    unpack_debian(DEBIAN_PACKAGES, part / "debian")
    into = ["-o", f"{part / 'bin'}/"]
    kubernetes = ["-ldflags", controlplane.LINKER_FLAGS, *into, *KUBERNETES_COMMANDS]
    go_build(go, controlplane.HERE, kubernetes, "kubelet and kube-proxy", say)
    go_build(go, HERE, ["-ldflags", "-s -w", *into, *NODE_COMMANDS], "containerd and network plugins", say)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    say(f"built in {time.monotonic() - started:.0f} s")


def unpack_debian(packages: tuple[str, ...], into: Path) -> None:
    """Download Debian packages by apt, which verifies them, and unpack them; nothing is installed.

    The lists of packages are apt's own copy in our cache: the machine's may be missing or old.

    Raises:
        BuildError: there is no apt, or a package cannot be had.
    """
    if shutil.which("apt-get") is None:
        raise BuildError(
            "runc and nft come from Debian's packages, and there is no apt-get: use kind (`make e2e-kind`)"
        )
    apt = cache_directory() / "apt"
    downloads = into.with_name("packages")
    for folder in (apt / "lists" / "partial", apt / "archives" / "partial", downloads, into):
        folder.mkdir(parents=True, exist_ok=True)
    options = ["--option", f"Dir::State::lists={apt / 'lists'}", "--option", f"Dir::Cache={apt}"]
    # Debian's sandbox user may not write to our cache.
    options += ["--option", "APT::Sandbox::User=root", "--quiet"]
    _step(["apt-get", *options, "update"], downloads)
    _step(["apt-get", *options, "download", *packages], downloads)
    for package in sorted(downloads.glob("*.deb")):
        _step(["dpkg-deb", "--extract", str(package), str(into)], downloads)
    shutil.rmtree(downloads)


def _step(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{command[0]} {command[-1]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
