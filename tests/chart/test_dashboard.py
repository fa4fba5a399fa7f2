"""The Grafana dashboard, against the metrics that the operator really has."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.chart.test_alerts import judged
from tests.controlplane.tools import CHART, helm_template

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controlplane.scene import Scene

DASHBOARD: dict[str, Any] = json.loads((CHART / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_every_panel_has_its_place_and_asks_something() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    assert all(panel["targets"] for panel in PANELS)


def test_every_query_is_one_that_prometheus_understands(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(QUERIES)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    judged("check", "rules", str(file))


def test_the_chart_ships_it_where_grafana_looks_for_it_and_only_when_asked() -> None:
    rendered = list(filter(None, yaml.safe_load_all(helm_template("--set=metrics.dashboard=true"))))
    (shipped,) = (obj for obj in rendered if obj["metadata"]["name"].endswith("-dashboard"))
    assert json.loads(shipped["data"]["vllm-operator.json"]) == DASHBOARD
    assert shipped["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert "-dashboard" not in helm_template()


@pytest.mark.control_plane
def test_every_metric_of_the_dashboard_is_one_that_the_operator_has(scene: Scene) -> None:
    families = set(re.findall(r"^# TYPE (\w+) ", scene.metrics(), re.MULTILINE))
    asked = {name for query in QUERIES for name in re.findall(r"\b(?:vllm_operator|process)_\w+", query)}
    known = families | {f"{family}{suffix}" for family in families for suffix in ("_count", "_bucket", "_total")}
    assert asked <= known
    assert len(asked) > 15
