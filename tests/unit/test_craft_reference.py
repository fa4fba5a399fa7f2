"""The table of demands and tests (docs/reference/craft.md) names only tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs" / "reference" / "craft.md").read_text()
ROWS = [line for line in TABLE.splitlines() if re.match(r"\| \d", line)]
NAMED = re.compile(r"`(tests/\S+\.py)?::(test_\w+)`")


def _named(row: str) -> list[tuple[str, str]]:
    """Return the (file, test) pairs of a row; one without a file is in the file that was named before it."""
    found: list[tuple[str, str]] = []
    for file, test in NAMED.findall(row):
        found.append((file or found[-1][0], test))
    return found


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip() for row in ROWS])
def test_every_test_that_is_named_exists(row: str) -> None:
    for file, test in _named(row):
        assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip() for row in ROWS])
def test_a_demand_is_proven_or_said_to_be_open(row: str) -> None:
    *_, still_open, _ = row.split("|")
    assert _named(row) or still_open.strip()
