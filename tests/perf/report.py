"""Sections as Markdown, and as lines for whoever waits."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.controlplane import build

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.perf.figures import Figure, Section

_WORDS = {True: "yes", False: "**no**", None: ""}
_HEAD = """# Benchmarks

Written by `make bench`, on a real API server and a real etcd; nothing here is edited by hand. The driver, the API
server and the operator share the machine's cores. Counts and ratios are asserted, seconds, CPU and sizes are reported
beside their bar. "Load" is the number of processes that wanted to run, on average over the minute before: what is
above 1 belongs to others, and makes seconds longer.
"""


def document(sections: Iterable[Section], circumstances: Mapping[str, str]) -> str:
    """Return the whole report."""
    facts = "\n".join(f"- {name}: {value}" for name, value in circumstances.items())
    return "\n".join([_HEAD, facts, "", *(f"{markdown(section)}\n" for section in sections)])


def markdown(section: Section) -> str:
    """Return one section with its table."""
    lines = [f"## {section.title}", "", f"{section.text} Load before: {section.load:.1f}.", ""]
    lines += ["| figure | found | bar | held |", "| --- | ---: | ---: | --- |"]
    lines += [
        f"| {figure.name} | {figure.value} | {figure.bar} | {_WORDS[figure.held]} |" for figure in section.figures
    ]
    return "\n".join(lines)


def plain(section: Section) -> str:
    """Return one section for a terminal."""
    return "\n".join([f"{section.title} (load before: {section.load:.1f})", *_lines(section.figures)])


def _lines(figures: Iterable[Figure]) -> Iterator[str]:
    for figure in figures:
        missed = "  MISSED" if figure.held is False else ""
        yield f"  {figure.name}: {figure.value}" + (f"  (bar {figure.bar}){missed}" if figure.bar else "")


def kubernetes_versions() -> str:
    """Return the versions of what the control plane is made of."""
    etcd = subprocess.run(
        [str(build.binary_directory() / "etcd"), "--version"], capture_output=True, text=True, check=True
    )
    return f"kube-apiserver {build.KUBERNETES_VERSION}, {etcd.stdout.splitlines()[0].replace(' Version:', '')}"
