"""Write the table of values in the chart's README from the comments of values.yaml.

Run `python scripts/chart_reference.py` after a change of the values; a test compares.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "vllm-operator"
PAGE = CHART / "README.md"
BEGIN = "<!-- values: scripts/chart_reference.py -->\n"
END = "<!-- end of values -->\n"

_COMMENT = re.compile(r"^\s*# (?:-- )?(.*)$")
_KEY = re.compile(r"^(\s*)(\w+):")


def page() -> str:
    """Return the README with the table of this moment."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


def table() -> str:
    """Return every value that has a comment: its path, its default and the comment."""
    rows = (f"| `{path}` | `{default}` | {text} |\n" for path, default, text in values())
    return "| value | default | |\n| --- | --- | --- |\n" + "".join(rows)


def values() -> Iterator[tuple[str, str, str]]:
    """Yield path, default as JSON, and meaning of every value."""
    text = (CHART / "values.yaml").read_text()
    defaults = yaml.safe_load(text)
    parents: list[str] = []
    said: list[str] = []
    for line in text.splitlines():
        if comment := _COMMENT.match(line):
            said.append(comment[1])
        elif key := _KEY.match(line):
            depth = len(key[1]) // 2
            parents[depth:] = [key[2]]
            if said:
                yield ".".join(parents), json.dumps(_at(defaults, parents)), " ".join(said).replace("|", "\\|")
            said = []
        else:
            said = []


def _at(value: Any, path: list[str]) -> Any:
    for key in path:
        value = value[key]
    return value


if __name__ == "__main__":
    PAGE.write_text(page())
