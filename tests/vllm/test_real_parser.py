"""vLLM's own parser reads what the planner writes (`make test-vllm`)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.golden.plans.test_golden_plans import CASES, cluster
from tests.unit.planning.fleets import facts, spec
from tests.vllm.command_lines import generated_command_lines

from vllm_operator.planning.decide import plan
from vllm_operator.planning.families import IMAGE_TEMPLATES
from vllm_operator.planning.flags import flags_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.vllm.conftest import RealParser

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

FEWEST_LINES = 1000
FEWEST_WORKERS = 40
"""Command lines of the later nodes of a replica."""
SCRIPT = Path(__file__).with_name("parse_command_lines.py")


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the chat templates of vLLM's image: its parser insists that the file exists."""
    return tmp_path_factory.mktemp("templates")


REGISTRIES = """
import json
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
print(json.dumps([ToolParserManager.list_registered(), ReasoningParserManager.list_registered()]))
"""


def environment(parser: RealParser) -> dict[str, str]:
    """The environment in which a release's Python finds that release."""
    found = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    return found if parser.packages is None else {**found, "PYTHONPATH": str(parser.packages)}


def refusals(parser: RealParser, lines: Sequence[Sequence[str]], templates: Path) -> list[str]:
    """What vLLM's parser says of each command line; empty where it takes it."""
    asked = "".join(json.dumps([_in_directory(token, templates) for token in line]) + "\n" for line in lines)
    command = [parser.python, SCRIPT]
    done = subprocess.run(
        command, input=asked, capture_output=True, text=True, check=False, env=environment(parser), cwd=templates
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(answer) for answer in done.stdout.splitlines()]


def _in_directory(token: str, templates: Path) -> str:
    if not token.startswith(IMAGE_TEMPLATES):
        return token
    template = templates / Path(token).name
    template.write_text("{{ messages }}", encoding="utf-8")
    return str(template)


def test_it_takes_every_generated_command_line(parser: RealParser, templates: Path) -> None:
    lines = sorted(set(generated_command_lines(parser.version)))
    assert len(lines) >= FEWEST_LINES
    assert sum("--headless" in line for line in lines) >= FEWEST_WORKERS
    answers = refusals(parser, lines, templates)
    refused = [f"{' '.join(line)}\n  {answer}" for line, answer in zip(lines, answers, strict=True) if answer]
    assert not refused, "\n".join(refused)


def test_it_takes_every_golden_plan(parser: RealParser, templates: Path) -> None:
    lines = {}
    for name, case in CASES.items():
        wishes = case.get("spec", {})
        wanted = spec(case["model"], **{**wishes, "engine": {**wishes.get("engine", {}), "version": parser.version}})
        found = plan(wanted, facts(case["model"]), cluster(case["cluster"]))
        if found.args:
            lines[name] = found.args
    assert lines
    answers = refusals(parser, list(lines.values()), templates)
    assert {name: answer for name, answer in zip(lines, answers, strict=True) if answer} == {}


@pytest.mark.parametrize(
    "tail",
    [
        ["--max-modl-len", "4096"],
        ["--max-lora-rank", "17"],
        ["--max-model-len", "many"],
        ["--enforce-eager", "yes"],
        ["--speculative-config", "{"],
    ],
    ids=" ".join,
)
def test_what_our_table_refuses_it_refuses_too(parser: RealParser, templates: Path, tail: list[str]) -> None:
    line = ["org/model", *tail]
    assert flags_of(parser.version).problems(line)
    assert refusals(parser, [line], templates)[0]


def test_it_refuses_a_tool_parser_that_it_does_not_have(parser: RealParser, templates: Path) -> None:
    line = ["org/model", "--enable-auto-tool-choice", "--tool-call-parser", "no-such-parser"]
    assert "no-such-parser" in refusals(parser, [line], templates)[0]


def test_the_embedded_names_of_parsers_are_those_that_it_registers(parser: RealParser) -> None:
    done = subprocess.run(
        [parser.python, "-c", REGISTRIES], capture_output=True, text=True, check=True, env=environment(parser)
    )
    tool_parsers, reasoning_parsers = json.loads(done.stdout.splitlines()[-1])

    table = flags_of(parser.version)

    assert table.tool_parsers == set(tool_parsers)
    assert table.reasoning_parsers == set(reasoning_parsers)
