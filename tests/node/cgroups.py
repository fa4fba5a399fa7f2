"""A cgroup of the node's own in every hierarchy: the only thing of a node that is outside its namespaces."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.node.machine import CGROUPS, CONTROLLERS, OPTIONAL_CONTROLLERS

PREFIX = "vllm-operator-node-"
REMOVED_WITHIN_SECONDS = 30


def name_of(keeper: int) -> str:
    """Return the name of the cgroup that a keeper with this process id looks after."""
    return f"{PREFIX}{keeper}"


def create(name: str) -> None:
    """Make the cgroup in every hierarchy; processors and memory nodes have to be given on."""
    for hierarchy in _hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)
    for file in ("cpuset.cpus", "cpuset.mems"):
        (CGROUPS / "cpuset" / name / file).write_text((CGROUPS / "cpuset" / file).read_text())


def remove(name: str) -> None:
    """Remove the cgroup, the deepest first; its processes have been killed, and the last may still be going.

    Raises:
        OSError: it is still in use after 30 s.
    """
    deadline = time.monotonic() + REMOVED_WITHIN_SECONDS
    for hierarchy in _hierarchies():
        for folder in sorted((hierarchy / name).rglob("*/"), key=_depth, reverse=True):
            _remove_folder(folder, deadline)
        _remove_folder(hierarchy / name, deadline)


def remove_abandoned() -> None:
    """Remove cgroups of keepers that were killed before they could do it."""
    for folder in (CGROUPS / "memory").glob(f"{PREFIX}*"):
        keeper = folder.name.removeprefix(PREFIX)
        if not _is_keeper(keeper):
            remove(folder.name)


def left() -> list[str]:
    """Return the cgroups of nodes that are there now."""
    return sorted(str(folder) for hierarchy in _hierarchies() for folder in hierarchy.glob(f"{PREFIX}*"))


def _hierarchies() -> list[Path]:
    optional = [CGROUPS / name for name in OPTIONAL_CONTROLLERS if (CGROUPS / name / "cgroup.procs").exists()]
    return [*(CGROUPS / name for name in CONTROLLERS), *optional]


def _depth(folder: Path) -> int:
    return len(folder.parts)


def _remove_folder(folder: Path, deadline: float) -> None:
    while folder.is_dir():
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _is_keeper(pid: str) -> bool:
    try:
        return b"tests.node.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
