"""The image is built from the Dockerfile with buildah, with no daemon and no registry (`make image-test`).

The base is a Debian root file system made by mmdebstrap, once, kept in the user's cache directory; releases use the
public Python image that the Dockerfile names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/vllm-operator-test-base:bookworm"
IMAGE = "localhost/vllm-operator:test"
PACKAGES = "python3,python3-venv,ca-certificates"
SIZE_BUDGET_BYTES = 600 * 1024**2
"""The official kubernetes client alone is 126 MB unpacked; the Debian base with Python is 225 MB."""

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

ENVIRONMENT = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}


def buildah(*arguments: str) -> str:
    done = subprocess.run(
        ["buildah", *arguments], cwd=ROOT, env=ENVIRONMENT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"buildah {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="session")
def base() -> str:
    for tool, package in (("buildah", "buildah"), ("mmdebstrap", "mmdebstrap")):
        assert shutil.which(tool), f"{tool} is missing: install the package {package}"
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vllm-operator" / "image"
    rootfs = cache / "bookworm-python.tar"
    if not rootfs.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = rootfs.with_suffix(".part.tar")
        subprocess.run(
            ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(part)],
            check=True,
            capture_output=True,
        )
        part.rename(rootfs)
    container = buildah("from", "scratch")
    buildah("add", container, str(rootfs), "/")
    buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    buildah("commit", "--quiet", "--rm", container, BASE)
    return BASE


@pytest.fixture(scope="session")
def image(base: str) -> str:
    certificates = "/etc/ssl/certs:/etc/ssl/certs:ro"
    passed_on = [
        f"--build-arg={name}"
        for name in os.environ
        if name.upper().startswith(("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"))
    ]
    arguments = [f"--build-arg=BASE={base}", "--build-arg=VERSION=0.0.0+test", "--network=host", "--pull=never"]
    buildah("build", *arguments, *passed_on, "--volume", certificates, "--tag", IMAGE, ".")
    return IMAGE


@pytest.fixture(scope="session")
def container(image: str):
    name = buildah("from", "--pull=never", image)
    yield name
    buildah("rm", name)


def inside(container: str, *command: str) -> str:
    return buildah("run", container, "--", *command)


def test_the_command_answers(container: str) -> None:
    assert "plan" in inside(container, "vllm-operator", "--help")


def test_the_standard_library_is_not_shadowed_by_the_source_folder(container: str) -> None:
    inside(container, "python", "-c", "import operator, vllm_operator; operator.itemgetter; vllm_operator.__version__")


def test_it_runs_as_a_number_that_is_not_root_and_cannot_write_outside_tmp(container: str) -> None:
    assert inside(container, "id", "-u") == "65532"
    probe = "import os; print(os.access('/', os.W_OK), os.access('/opt/venv', os.W_OK), os.access('/tmp', os.W_OK))"
    assert inside(container, "python", "-c", probe) == "False False True"


def test_no_installer_is_left_inside(container: str) -> None:
    probe = "import importlib.util as u; print(u.find_spec('pip'))"
    assert inside(container, "python", "-c", probe) == "None"


def test_it_says_what_it_is(image: str) -> None:
    config = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["vllm-operator"]
    assert config["Labels"]["org.opencontainers.image.version"] == "0.0.0+test"


def test_it_stays_within_its_size_budget(container: str) -> None:
    kibibytes = sum(int(line.split()[0]) for line in inside(container, "du", "-skx", "/usr", "/opt").splitlines())
    assert kibibytes * 1024 <= SIZE_BUDGET_BYTES, f"{kibibytes / 1024:.0f} MiB"
