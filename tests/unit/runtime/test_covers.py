"""Items of a list are told apart by what is theirs alone."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.runtime.children import covers

PARENTS = [{"name": "inference", "sectionName": "https"}, {"name": "inference", "sectionName": "http"}]
TAINTS = [{"key": "team", "effect": "NoSchedule"}, {"key": "team", "effect": "NoExecute"}]


@pytest.mark.parametrize("wanted", [PARENTS, TAINTS, [{"operator": "Exists"}, {"key": "team"}]])
def test_items_that_share_a_name_are_each_found(wanted: list[dict[str, Any]]) -> None:
    assert covers([{"defaulted": True, **item} for item in wanted], wanted)


@pytest.mark.parametrize("wanted", [PARENTS, TAINTS])
def test_one_of_two_items_that_share_a_name_is_missed(wanted: list[dict[str, Any]]) -> None:
    assert not covers(wanted[:1], wanted)
    assert not covers([wanted[0], wanted[0]], wanted)
