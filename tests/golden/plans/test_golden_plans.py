"""Golden plans: each case's whole answer, reviewed like code. UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.unit.planning.fleets import facts, inventory, node, pod, spec

from vllm_operator.planning.decide import Capabilities, plan
from vllm_operator.planning.flags import flags_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.planning.plan import Placement, Plan

HERE = Path(__file__).parent
EXPECTED = HERE / "expected"
DOCUMENT = yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = DOCUMENT["cases"]


def cluster(name: str) -> Inventory:
    objects = []
    for wanted in DOCUMENT["clusters"][name]:
        used = wanted.get("used", 0)
        objects.append(node(**{key: value for key, value in wanted.items() if key != "used"}))
        if used:
            objects.append(pod(wanted["name"], used))
    return inventory(*objects)


def planned(case: Mapping[str, Any]) -> Plan:
    return plan(
        spec(case["model"], **case.get("spec", {})),
        facts(case["model"]),
        cluster(case["cluster"]),
        capabilities=Capabilities(leader_worker_sets=case.get("leaderWorkerSets", False)),
    )


def gpus(placement: Placement) -> str:
    nodes = f" on each of {placement.nodes_per_replica} nodes" if placement.nodes_per_replica > 1 else ""
    return f"{placement.gpus_per_pod} x {placement.gpu_class.product}{nodes}"


def answer(found: Plan) -> dict[str, Any]:
    placement = found.placement
    return {
        "verdict": found.verdict.value,
        "oomRisk": found.oom_risk.value if found.oom_risk is not None else None,
        "message": found.message,
        "gpus": gpus(placement) if placement else None,
        "nodes": list(placement.nodes) if placement else [],
        "affinity": [{key: list(values) for key, values in term.items()} for term in placement.node_selector_terms]
        if placement
        else [],
        "image": found.image,
        "args": " ".join(found.args),
        "reasons": {reason.flag: reason.why for reason in found.reasons},
        "suggestions": [
            {"summary": suggestion.summary, "patch": dict(suggestion.patch), "effect": suggestion.effect}
            for suggestion in found.suggestions
        ],
        "warnings": list(found.warnings),
    }


@pytest.mark.parametrize("name", CASES)
def test_the_plan_is_the_reviewed_one(name: str) -> None:
    found = answer(planned(CASES[name]))
    path = EXPECTED / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=118), encoding="utf-8")
    assert found == yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CASES)
def test_its_command_line_gets_through_vllms_parser(name: str) -> None:
    found = planned(CASES[name])
    assert flags_of(found.engine_version).problems(found.args) == ()


def test_no_answer_is_left_without_its_case() -> None:
    assert {path.stem for path in EXPECTED.glob("*.yaml")} == set(CASES)
