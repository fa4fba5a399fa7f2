"""The documentation against what it speaks of: links, commands, make targets, reasons, fields and values."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from vllm_operator.api import conditions
from vllm_operator.cli import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "charts").rglob("*.md"),
        *(ROOT / "manifests").rglob("*.md"),
    ]
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|&& )(?:\$ )?((?:vllm-operator|kubectl vllm) [^|>&;\n]+)", re.MULTILINE)
INLINE_COMMAND = re.compile(r"(?:^|&& )(?:\$ )?((?:vllm-operator|kubectl vllm) [^|>&;\n]+)", re.MULTILINE)
TARGET = re.compile(r"\bmake ([a-z][a-z0-9-]*)\b(?=[`\s,;.)]|$)")
NOT_TARGETS = frozenset({"sure", "it", "them"})
REASONS = {
    value
    for name, value in vars(conditions).items()
    if name.isupper() and isinstance(value, str) and name != "TYPES" and value not in conditions.TYPES
}

each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for found in LINK.finditer(text):
        target = found[1] or found[2]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if heading:
            assert heading in _anchors(file), target


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    linked = {(ROOT / "docs" / (found[1] or found[2])).resolve() for found in LINK.finditer(index)}
    unlisted = {page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "decisions"} - linked
    assert {page.name for page in unlisted} == {"README.md"}


@each_page
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = [*FENCE.findall(page.read_text()), *re.findall(r"`([^`\n]+)`", page.read_text())]
    named = {target for text in code for target in TARGET.findall(text)} - NOT_TARGETS
    assert named <= targets


def _commands(page: Path) -> Iterator[str]:
    text = page.read_text()
    for block in FENCE.findall(text):
        yield from COMMAND.findall(block.replace("\\\n", " "))
    yield from INLINE_COMMAND.findall(FENCE.sub("", text))


@each_page
def test_every_command_that_is_shown_is_one_that_the_command_line_knows(page: Path) -> None:
    parser = _command_line()
    for command in _commands(page):
        words = [
            word
            for word in shlex.split(command.partition(" #")[0].removeprefix("kubectl "))[1:]
            if word not in ("…", "...")
        ]
        try:
            parser.parse_args(words)
        except (SystemExit, argparse.ArgumentError) as error:
            # A command that is only named, without what it needs.
            if len(words) > 1:
                raise AssertionError(command) from error
            assert words[0] in COMMANDS, command


def _command_line() -> argparse.ArgumentParser:
    """Return the parser with the options of every command; the program loads those of one."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    for name in COMMANDS:
        importlib.import_module(f"vllm_operator.cli.{name.replace('-', '_')}").add_parser(commands)
    return parser


def test_every_reason_has_its_row_and_no_other_is_promised() -> None:
    page = (ROOT / "docs" / "reference" / "conditions.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told == REASONS | set(conditions.TYPES)


def _script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_fields_are_those_of_the_crd() -> None:
    script = _script("api_reference")
    assert script.PAGE.read_text() == script.page(), "run scripts/api_reference.py"


def test_the_charts_values_are_those_of_its_readme_and_each_is_explained() -> None:
    script = _script("chart_reference")
    assert script.PAGE.read_text() == script.page(), "run scripts/chart_reference.py"
    explained = {path for path, _, _ in script.values()}
    defaults = yaml.safe_load((script.CHART / "values.yaml").read_text())
    assert set(_leaves(defaults, explained)) == explained


def _leaves(value: Any, explained: set[str], path: str = "") -> Iterator[str]:
    if path in explained or not isinstance(value, dict):
        yield path
        return
    for key, below in value.items():
        yield from _leaves(below, explained, f"{path}.{key}" if path else key)
