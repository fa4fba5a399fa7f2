"""The operator's benchmarks: `python -m tests.perf [--quick] [--report FILE] [SCENARIO...]`, or `make bench`.

Without scenarios all of them run. Each replaces its part of docs/reference/benchmarks.md. The exit code is 1 when a
count or a ratio missed its bar; times, CPU and sizes are reported, as they depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.controlplane.build import ROOT
from tests.perf import process, report
from tests.perf.scenarios import burst, cold_start, idle, large
from tests.perf.settings import FULL, QUICK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.perf.figures import Section
    from tests.perf.settings import Sizes

REPORT: Final = ROOT / "docs" / "reference" / "benchmarks.md"
SCENARIOS: Final[dict[str, Callable[[Sizes], AsyncIterator[Section]]]] = {
    "burst": burst.run,
    "cold-start": cold_start.run,
    "idle": idle.run,
    "large": large.run,
}


def main() -> int:
    """Run scenarios and say what they found."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf", description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], help="all of them by default")
    parser.add_argument("--quick", action="store_true", help="a fifth of the size: to try, not to report from")
    parser.add_argument(
        "--report", type=Path, help=f"file to update; {REPORT.relative_to(ROOT)} by default, none with --quick"
    )
    parser.add_argument("--pairs", type=int, help="bursts of the operator and of the bare client")
    parser.add_argument("--resources", type=int, help="VLLMDeployments of the large cluster")
    parser.add_argument("--idle-seconds", type=float, help="how long nothing happens")
    chosen = parser.parse_args()
    stated = {name: value for name in ("pairs", "resources", "idle_seconds") if (value := getattr(chosen, name))}
    sizes = replace(QUICK if chosen.quick else FULL, **stated)
    found = asyncio.run(_run(chosen.scenarios or list(SCENARIOS), sizes))
    path = chosen.report or (None if chosen.quick else REPORT)
    if path is not None:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(report.updated(before, found, _circumstances(), list(SCENARIOS)), encoding="utf-8")
    failures = [figure for sections in found.values() for section in sections for figure in section.failures]
    for figure in failures:
        print(f"FAILED {figure.name}: {figure.value}, bar {figure.bar}", file=sys.stderr)
    return 1 if failures else 0


async def _run(names: list[str], sizes: Sizes) -> dict[str, list[Section]]:
    found: dict[str, list[Section]] = {}
    for name in names:
        async for section in SCENARIOS[name](sizes):
            print(report.plain(section), flush=True)
            found.setdefault(name, []).append(section)
    return found


def _circumstances() -> dict[str, str]:
    """Return what the figures depend on."""
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("kopf", "aiohttp", "uvloop", "pydantic"))
    return {
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Revision": revision.stdout.strip() or "unknown",
        "Machine": process.machine(),
        "Python": f"{sys.version.split()[0]}; {packages}",
        "Kubernetes": report.kubernetes_versions(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
