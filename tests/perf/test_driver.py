"""The parts of the driver on which figures rest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.audit import OPERATOR, AuditTrail
from tests.perf.audit import of_operator, reads_in, writes
from tests.perf.figures import Bar, Section, quantile
from tests.perf.owned import applied_by
from tests.perf.report import HEAD, updated
from tests.perf.scraped import Metrics

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """# HELP seconds of something
# TYPE seconds histogram
seconds_bucket{name="a b",le="0.005"} 98
seconds_bucket{name="a b",le="0.01"} 99
seconds_bucket{name="a b",le="+Inf"} 100
seconds_sum{name="a b"} 0.5
seconds_count{name="a b"} 100
seconds_bucket{name="other",le="+Inf"} 7
depth 3
"""


def test_a_quantile_is_never_below_what_was_measured() -> None:
    metrics = Metrics.parse(PAGE)
    assert metrics.quantile("seconds", 0.98, name="a b") == 0.005
    assert metrics.quantile("seconds", 0.985, name="a b") == 0.01
    assert metrics.quantile("seconds", 0.995, name="a b") == float("inf")
    assert metrics.mean("seconds", name="a b") == 0.005
    assert metrics.total("depth") == 3
    assert metrics.mean("unheard_of") == 0


def test_only_what_was_added_counts() -> None:
    later = Metrics.parse(PAGE.replace('seconds_sum{name="a b"} 0.5', 'seconds_sum{name="a b"} 1.5'))
    added = later.since(Metrics.parse(PAGE))
    assert added.total("seconds_sum", name="a b") == 1.0
    assert added.total("seconds_count", name="a b") == 0


@pytest.mark.parametrize(("share", "value"), [(0.5, 3), (0.99, 5), (0.0, 1)])
def test_a_quantile_of_a_list_is_one_of_its_values(share: float, value: float) -> None:
    assert quantile([5, 1, 4, 2, 3], share) == value


def test_only_asserted_figures_fail_a_run() -> None:
    section = Section("a", "b")
    section.at_most("time", 2.0, 1.0, unit="s")
    section.at_least("ratio", 0.5, 0.75, kind=Bar.ASSERTED)
    section.equal("count", 3, 3)
    section.note("rate", 17.5, "/s")
    assert [figure.name for figure in section.failures] == ["ratio"]
    assert [figure.held for figure in section.figures] == [False, False, True, None]


def test_a_scenario_replaces_its_own_part_of_the_document() -> None:
    def section(value: float) -> Section:
        made = Section("A title", "A text.", load=0.5)
        made.at_most("time", value, 1.0, unit="s")
        return made

    order = ["burst", "idle"]
    first = updated("", {"idle": [section(0.25)], "burst": [section(0.5)]}, {"Date": "yesterday"}, order)
    second = updated(first, {"burst": [section(2.5)]}, {"Date": "today"}, order)

    assert first.startswith(HEAD)
    assert first.index("0.50 s") < first.index("0.25 s")
    assert "0.50 s" not in second
    assert "| time | 2.50 s | ≤ 1 s | **no** |" in second
    assert second.index("today") < second.index("0.25 s") < second.index("yesterday")
    assert updated(second, {}, {}, order) == second


def test_an_object_is_cut_down_to_what_its_manager_applied() -> None:
    fields = {
        "f:metadata": {"f:labels": {"f:ours": {}}},
        "f:spec": {
            "f:finalizers": {'v:"kept"': {}},
            "f:containers": {'k:{"name":"engine"}': {".": {}, "f:name": {}, "f:args": {}}},
        },
    }
    obj: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Thing",
        "metadata": {
            "name": "a",
            "namespace": "b",
            "uid": "1",
            "labels": {"ours": "x", "theirs": "y"},
            "managedFields": [
                {"manager": "us", "operation": "Apply", "fieldsV1": fields},
                {"manager": "them", "operation": "Update", "fieldsV1": {}},
            ],
        },
        "spec": {
            "finalizers": ["kept", "another"],
            "containers": [
                {"name": "engine", "args": ["--port", "1"], "imagePullPolicy": "Always"},
                {"name": "injected"},
            ],
            "paused": False,
        },
    }
    assert applied_by(obj, "us") == {
        "apiVersion": "v1",
        "kind": "Thing",
        "metadata": {"name": "a", "namespace": "b", "labels": {"ours": "x"}},
        "spec": {"finalizers": ["kept"], "containers": [{"name": "engine", "args": ["--port", "1"]}]},
    }


def test_the_audit_log_says_who_wrote_what(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text(_line("someone", "create", "pods"))
    log = AuditTrail(path, everyone=True)
    events = [
        _line(OPERATOR, "patch", "vllmdeployments", subresource="status"),
        _line(OPERATOR, "update", "leases"),
        _line(OPERATOR, "patch", "services", code=504),
        _line(OPERATOR, "get", "configmaps"),
        _line(OPERATOR, "watch", "pods", stage="ResponseStarted"),
        _line("someone", "create", "pods"),
    ]
    text = "".join(events)
    path.write_text(path.read_text() + text[:150])
    log.read()
    with path.open("a") as file:
        file.write(text[150:])

    assert len(log.read()) == 5
    assert [request.resource for request in of_operator(log) if request.failed] == ["services"]
    assert writes(of_operator(log)) == {"patch vllmdeployments/status": 1}
    assert reads_in(of_operator(log), {"team"}) == {"get configmaps": 1}
    assert reads_in(of_operator(log), {"elsewhere"}) == {}
    assert len(of_operator(log, since=3)) == 1


def _line(
    user: str, verb: str, resource: str, *, subresource: str = "", stage: str = "ResponseComplete", code: int = 200
) -> str:
    event = {
        "stage": stage,
        "verb": verb,
        "user": {"username": user},
        "requestURI": "/x?y",
        "objectRef": {"resource": resource, "subresource": subresource, "namespace": "team", "name": "a"},
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": "2026-01-01T00:00:00.000000Z",
        "stageTimestamp": "2026-01-01T00:00:00.250000Z",
    }
    return json.dumps(event) + "\n"
