"""`observations` and `plan --observations`: exports, ConfigMaps as kubectl prints them, and files that are neither."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.unit.api.test_observations import ENTRY, document
from tests.unit.cli.test_plan import deployment
from tests.unit.planning.fleets import node

from vllm_operator.api.observations import DATA_KEY
from vllm_operator.cli import main

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {DATA_KEY: document(ENTRY)}}


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "observations"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    "text",
    [document(ENTRY), yaml.safe_dump(CONFIG_MAP), json.dumps({"kind": "List", "items": [CONFIG_MAP]})],
    ids=["an export", "a ConfigMap", "a List of ConfigMaps"],
)
def test_every_form_is_read_and_comes_out_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert main(["observations", "-f", written(tmp_path, text), "-o", "json"]) == 0
    first = capsys.readouterr().out
    (entry,) = json.loads(first)["observations"]
    assert entry["kvCacheTokens"] == ENTRY["kvCacheTokens"]
    assert main(["observations", "-f", written(tmp_path, first), "-o", "json"]) == 0
    assert capsys.readouterr().out == first


def test_the_table_says_what_was_predicted_and_what_was_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["observations", "-f", written(tmp_path, document(ENTRY))]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["MODEL", "ENGINE", "GPU"]
    assert row.split() == [
        "org/model",
        "0.33.0",
        "NVIDIA-L4",
        "2",
        "1",
        "1",
        "91,000",
        "90,000",
        "+1.1",
        "2026-11-01T10:00:00Z",
    ]


def test_what_cannot_be_true_is_named_and_the_rest_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, document({**ENTRY, "kvCacheTokens": 0}, ENTRY))
    assert main(["observations", "-f", path, "-o", "json"]) == 0
    answer = capsys.readouterr()
    assert len(json.loads(answer.out)["observations"]) == 1
    assert f"warning: {path}: observation 1 is ignored: kvCacheTokens" in answer.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no observations"),
        ("kind: ConfigMap\nmetadata: {name: x}\n", "holds no observations"),
        ("observations: 7\n", 'has no list "observations"'),
        ("observations: []\nformat: 9\n", "its format is '9'"),
    ],
    ids=["empty", "another ConfigMap", "no list", "a newer format"],
)
def test_a_file_that_holds_none_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    resources = tmp_path / "model.yaml"
    resources.write_text(yaml.safe_dump_all([deployment(), node("H100", "h100-0", 1)]))
    path = written(tmp_path, text)
    assert main(["observations", "-f", path]) == 2
    assert main(["plan", "-f", str(resources), "--observations", path]) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err.count(says) == 2
