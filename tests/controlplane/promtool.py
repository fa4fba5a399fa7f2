"""promtool, built once from its Go module: Prometheus' own judge of alert rules and metrics."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from tests.controlplane.build import HERE, cache_directory, find_go, go_build, only_one

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODULE = HERE / "prometheus"
COMMAND = "github.com/prometheus/prometheus/cmd/promtool"
# Rules need no service discovery: without the clouds' clients it builds in a quarter of the time.
TAGS = "remove_all_sd"


def promtool(say: Callable[[str], None] = print) -> Path:
    """Return a promtool command; build it where it is missing, about a minute.

    Raises:
        BuildError: Go is missing and cannot be had, or the build failed.
    """
    files = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum"))
    target = cache_directory() / f"promtool-{hashlib.sha256(files).hexdigest()[:16]}" / "promtool"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with only_one(target.with_suffix(".lock"), say):
        if not target.exists():
            part = target.with_suffix(f".{os.getpid()}")
            arguments = ["-tags", TAGS, "-ldflags", "-s -w", "-o", str(part), COMMAND]
            go_build(find_go(say), MODULE, arguments, "promtool", say)
            part.rename(target)
    return target
