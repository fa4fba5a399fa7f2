"""What was found as Markdown, and as lines for whoever waits.

The document has a part for each scenario, which says itself when and on what it was measured: a run of one scenario
replaces its part and leaves the others as they are.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

from tests.controlplane import build

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.perf.figures import Figure, Section

_WORDS = {True: "yes", False: "**no**", None: ""}
HEAD: Final = """# Benchmarks

Written by `make bench`, on a real API server and a real etcd; nothing here is edited by hand.
`make bench SCENARIOS=burst` measures one part anew. The driver, the API server and the operator share the machine's
cores.

- Counts and ratios hold on every machine; a miss fails the run. Times, CPU and sizes are reported beside their bar.
- "Load" is the number of processes that wanted to run, on average over the minute before a scenario. What was there
  belongs to others: it makes times longer, and CPU time a little.
- The operator is one process with one event loop; API server and etcd run without priority and fairness, controller
  manager or scheduler, unless a scenario says otherwise.
- A bare client sends the same requests and applies the same objects as the operator did, sixteen at a time, and does
  nothing else. It is the measure for what the API server can take.
"""


def updated(
    document: str, found: Mapping[str, Sequence[Section]], circumstances: Mapping[str, str], order: Sequence[str]
) -> str:
    """Return the document with new parts for the scenarios that were measured, in the given order of all."""
    parts = dict(_parts(document)) | {name: _part(name, sections, circumstances) for name, sections in found.items()}
    return "\n".join([HEAD, *(parts[name] for name in order if name in parts)])


def plain(section: Section) -> str:
    """Return one section for a terminal."""
    return "\n".join([f"{section.title} (load before: {section.load:.1f})", *_lines(section.figures)])


def kubernetes_versions() -> str:
    """Return the versions of what the control plane is made of."""
    etcd = subprocess.run(
        [str(build.binary_directory() / "etcd"), "--version"], capture_output=True, text=True, check=True
    )
    return f"kube-apiserver {build.KUBERNETES_VERSION}, {etcd.stdout.splitlines()[0].replace(' Version:', '')}"


def _parts(document: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"<!-- scenario (\S+) -->\n.*?<!-- end of \1 -->\n", document, re.DOTALL):
        yield match[1], match[0]


def _part(name: str, sections: Sequence[Section], circumstances: Mapping[str, str]) -> str:
    said = "\n".join(f"- {fact}: {value}" for fact, value in {"Scenario": f"`{name}`", **circumstances}.items())
    inner = "\n".join([*(f"{_markdown(section)}\n" for section in sections), said])
    return f"<!-- scenario {name} -->\n{inner}\n<!-- end of {name} -->\n"


def _markdown(section: Section) -> str:
    lines = [f"## {section.title}", "", f"{section.text} Load before: {section.load:.1f}.", ""]
    lines += ["| figure | found | bar | held |", "| --- | ---: | ---: | --- |"]
    lines += [
        f"| {figure.name} | {figure.value} | {figure.bar} | {_WORDS[figure.held]} |" for figure in section.figures
    ]
    return "\n".join(lines)


def _lines(figures: Iterable[Figure]) -> Iterator[str]:
    for figure in figures:
        missed = "  MISSED" if figure.held is False else ""
        yield f"  {figure.name}: {figure.value}" + (f"  (bar {figure.bar}){missed}" if figure.bar else "")
