"""The operator's benchmarks: `python -m tests.perf [--quick] [--report FILE] [SCENARIO...]`, or `make bench`.

Without scenarios all of them run, and their report replaces docs/reference/benchmarks.md. The exit code is 1 when a
count or a ratio missed its bar; seconds, shares of a core and sizes are reported, as they depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.controlplane.build import ROOT
from tests.perf import process, report
from tests.perf.scenarios import burst, cold_start, idle, large
from tests.perf.settings import FULL, QUICK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.perf.figures import Section
    from tests.perf.settings import Sizes

REPORT: Final = ROOT / "docs" / "reference" / "benchmarks.md"
SCENARIOS: Final[dict[str, Callable[[Sizes], Awaitable[list[Section]]]]] = {
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
    parser.add_argument("--report", type=Path, help=f"file to write; {REPORT.relative_to(ROOT)} where all run in full")
    chosen = parser.parse_args()
    names = chosen.scenarios or list(SCENARIOS)
    sections = _run(names, QUICK if chosen.quick else FULL)
    whole = not chosen.scenarios and not chosen.quick
    path = chosen.report or (REPORT if whole else None)
    if path is not None:
        path.write_text(report.document(sections, _circumstances()), encoding="utf-8")
    failures = [figure for section in sections for figure in section.failures]
    for figure in failures:
        print(f"FAILED {figure.name}: {figure.value}, bar {figure.bar}", file=sys.stderr)
    return 1 if failures else 0


def _run(names: list[str], sizes: Sizes) -> list[Section]:
    found: list[Section] = []
    for name in names:
        for section in asyncio.run(_of(name, sizes)):
            print(report.plain(section), flush=True)
            found.append(section)
    return found


async def _of(name: str, sizes: Sizes) -> list[Section]:
    return await SCENARIOS[name](sizes)


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
