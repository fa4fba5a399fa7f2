"""Builds the operator's image with buildah: no daemon, no registry, and a base that is made here.

The base is a Debian root file system made by mmdebstrap, once, kept in the user's cache directory; releases use the
public Python image that the Dockerfile names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.controlplane.build import ROOT, cache_directory

if TYPE_CHECKING:
    from pathlib import Path

BASE = "localhost/vllm-operator-test-base:bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
ENVIRONMENT = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}


def buildah(*arguments: str) -> str:
    """Run buildah in the repository and return what it printed."""
    done = subprocess.run(
        ["buildah", *arguments], cwd=ROOT, env=ENVIRONMENT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"buildah {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def base_image() -> str:
    """Return the name of an image with Python and nothing else, made at the first call."""
    container = buildah("from", "scratch")
    buildah("add", container, str(root_file_system()), "/")
    buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    buildah("commit", "--quiet", "--rm", container, BASE)
    return BASE


def root_file_system() -> Path:
    """Return a tar archive of Debian with Python."""
    for tool, package in (("buildah", "buildah"), ("mmdebstrap", "mmdebstrap")):
        assert shutil.which(tool), f"{tool} is missing: install the package {package}"
    archive = cache_directory() / "image" / "bookworm-python.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        part = archive.with_suffix(".part.tar")
        subprocess.run(
            ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(part)],
            check=True,
            capture_output=True,
        )
        part.rename(archive)
    return archive


def operator_image(base: str, *, tag: str, version: str) -> str:
    """Build the Dockerfile on a base and return the image's name."""
    certificates = "/etc/ssl/certs:/etc/ssl/certs:ro"
    passed_on = [
        f"--build-arg={name}"
        for name in os.environ
        if name.upper().startswith(("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"))
    ]
    arguments = [f"--build-arg=BASE={base}", f"--build-arg=VERSION={version}", "--network=host", "--pull=never"]
    buildah("build", *arguments, *passed_on, "--volume", certificates, "--tag", tag, ".")
    return tag
