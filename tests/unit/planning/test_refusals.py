"""Arguments over which vLLM would end its start are refused with a correction that has been planned again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.planning.fleets import facts, inventory, node, spec

from vllm_operator.planning.decide import plan
from vllm_operator.planning.plan import Plan, Verdict

MODEL = "Qwen/Qwen3-8B"


def planned(**engine: Any) -> Plan:
    wanted = spec(MODEL, workload={"contextLength": 4096}, engine=engine)
    return plan(wanted, facts(MODEL), inventory(node("H100", "n0", 1)))


@pytest.mark.parametrize(
    ("engine", "field", "named", "patch"),
    [
        (
            {"extraArgs": ["--seed", "7", "--num-scheduler-steps", "8", "--disable-log-stats"]},
            "spec.engine.extraArgs",
            "no flag --num-scheduler-steps",
            {"extraArgs": ["--seed", "7", "--disable-log-stats"]},
        ),
        (
            {"extraArgs": ["--attention-backend"]},
            "spec.engine.extraArgs",
            "--attention-backend takes one value",
            {"extraArgs": None},
        ),
        ({"toolCalling": "hermess"}, "spec.engine.toolCalling", "no parser 'hermess'", {"toolCalling": "Auto"}),
        ({"reasoning": "qwen4"}, "spec.engine.reasoning", "no parser 'qwen4'", {"reasoning": "Auto"}),
    ],
    ids=["unknown flag", "flag without its value", "unknown tool parser", "unknown reasoning parser"],
)
def test_what_vllm_would_not_start_with_is_refused_with_the_change_that_helps(
    engine: dict[str, Any], field: str, named: str, patch: dict[str, Any]
) -> None:
    found = planned(**engine)

    assert found.verdict is Verdict.DOES_NOT_FIT
    assert found.message.startswith(f"{field}: vLLM")
    assert named in found.message
    assert "GPU" not in found.message
    assert found.suggestions[0].patch == {"spec": {"engine": patch}}
    assert planned(
        **{**engine, **patch, **({"extraArgs": []} if patch.get("extraArgs", 0) is None else {})}
    ).verdict is (Verdict.FITS)


@pytest.mark.parametrize(
    "engine",
    [
        {"extraArgs": ["-O3"]},
        {"extraArgs": ["--no-enable-prefix-caching"]},
        {"extraArgs": ["--limit-mm-per-prompt.image", "2"]},
        {"extraArgs": ["--tool-parser-plugin", "/plugins/mine.py"], "toolCalling": "mine"},
        {"extraArgs": ["--reasoning-parser-plugin=/plugins/mine.py"], "reasoning": "mine"},
        {"extraArgs": ["--of-another-build", "1"], "image": "registry.example.com/vllm:patched"},
        {"extraArgs": ["--of-a-later-release", "1"], "version": "0.99.0"},
    ],
    ids=["short", "negated", "field", "tool plugin", "reasoning plugin", "own image", "unknown release"],
)
def test_what_vllm_may_know_is_not_judged(engine: dict[str, Any]) -> None:
    assert planned(**engine).verdict is Verdict.FITS


def test_a_parser_that_the_release_does_not_have_yet_is_left_out() -> None:
    from vllm_operator.planning.flags import flags_of

    assert "step5" in flags_of("0.33.0").tool_parsers
    assert "step5" not in flags_of("0.32.0").tool_parsers
