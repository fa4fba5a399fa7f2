"""The alerts, judged by promtool, and against the metrics that the operator really has."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.controlplane.build import ROOT
from tests.controlplane.promtool import promtool
from tests.controlplane.tools import CHART, helm_template

if TYPE_CHECKING:
    from tests.controlplane.scene import Scene

ALERTS = CHART / "alerts.yaml"
EXAMPLES = Path(__file__).with_name("alerts_test.yaml")
RUNBOOK = ROOT / "docs" / "reference" / "alerts.md"


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def judged(*arguments: str, text: str | None = None) -> str:
    """Return what promtool says; it must agree."""
    command = [str(promtool()), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_alert_fires_on_its_symptom_and_not_before() -> None:
    judged("check", "rules", "--lint=all", "--lint-fatal", str(ALERTS))
    judged("test", "rules", str(EXAMPLES))
    tried = EXAMPLES.read_text()
    assert [rule["alert"] for rule in rules() if rule["alert"] not in tried] == []


def test_the_chart_wraps_the_same_rules_where_they_are_asked_for() -> None:
    rendered = list(filter(None, yaml.safe_load_all(helm_template("--set=metrics.alerts=true"))))
    (wrapped,) = (obj for obj in rendered if obj["kind"] == "PrometheusRule")
    assert wrapped["spec"] == yaml.safe_load(ALERTS.read_text())
    assert "PrometheusRule" not in helm_template()


def test_each_alert_links_to_its_part_of_the_runbook_where_that_is_published() -> None:
    base = "https://docs.example.com/alerts"
    text = helm_template("--set=metrics.alerts=true", f"--set=metrics.runbookUrl={base}")
    (wrapped,) = (obj for obj in filter(None, yaml.safe_load_all(text)) if obj["kind"] == "PrometheusRule")
    found = [rule for group in wrapped["spec"]["groups"] for rule in group["rules"]]
    links = {rule["alert"]: rule["annotations"].pop("runbook_url") for rule in found}
    assert links == {rule["alert"]: f"{base}#{rule['alert'].lower()}" for rule in rules()}
    assert found == rules()


def test_every_alert_has_its_place_in_the_runbook() -> None:
    headings = set(re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    assert headings == {rule["alert"] for rule in rules()}


@pytest.mark.control_plane
def test_every_metric_of_the_alerts_is_one_that_the_operator_has(scene: Scene) -> None:
    scraped = scene.metrics()
    judged("check", "metrics", text=scraped)
    families = set(re.findall(r"^# TYPE (\w+) ", scraped, re.MULTILINE))
    asked = {name for rule in rules() for name in re.findall(r"\bvllm_operator_\w+", rule["expr"])}
    known = families | {f"{family}{suffix}" for family in families for suffix in ("_count", "_bucket", "_total")}
    assert asked <= known
