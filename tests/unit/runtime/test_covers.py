"""What is an edit of ours, and what somebody else's addition: some lists are merged, and others are one value."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.runtime.children import covers

PARENTS = [{"name": "inference", "sectionName": "https"}, {"name": "inference", "sectionName": "http"}]
TAINTS = [{"key": "team", "effect": "NoSchedule"}, {"key": "team", "effect": "NoExecute"}]
OPEN_PORTS = [{"port": "http", "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("field", "items", "addition"),
    [
        ("env", [{"name": "A", "value": "1"}], {"name": "INJECTED", "value": "2"}),
        ("containers", [{"name": "engine"}], {"name": "sidecar"}),
        ("volumeMounts", [{"name": "a", "mountPath": "/a"}, {"name": "a", "mountPath": "/b"}], {"mountPath": "/c"}),
        ("ports", [{"name": "http", "containerPort": 8000}], {"name": "debug", "containerPort": 5678}),
        ("ports", [{"name": "http", "port": 80}], {"name": "debug", "port": 5678}),
        ("ownerReferences", [{"uid": "ours", "kind": "VLLMDeployment"}], {"uid": "theirs", "kind": "Application"}),
    ],
)
def test_others_may_add_to_a_list_that_is_merged(
    field: str, items: list[dict[str, Any]], addition: dict[str, Any]
) -> None:
    wanted = {field: items}
    assert covers({field: [addition, *({"defaulted": True, **item} for item in items)]}, wanted)
    assert not covers({field: [addition, *items[1:]]}, wanted)


@pytest.mark.parametrize(
    ("field", "items"),
    [
        ("parentRefs", PARENTS),
        ("tolerations", TAINTS),
        ("ports", OPEN_PORTS),
        ("from", [{"podSelector": {}}]),
        ("policies", [{"type": "Pods", "value": 1}]),
        ("args", ["--a", "--b"]),
    ],
)
def test_an_item_more_in_a_list_that_is_one_value_is_an_edit(field: str, items: list[Any]) -> None:
    assert covers({field: items}, {field: items})
    assert not covers({field: [*items, items[0]]}, {field: items})
    assert not covers({field: items[:-1]}, {field: items})


def test_items_that_share_a_name_are_each_looked_at() -> None:
    assert covers({"parentRefs": [{"group": "defaulted", **item} for item in PARENTS]}, {"parentRefs": PARENTS})
    assert not covers({"parentRefs": [PARENTS[0], PARENTS[0]]}, {"parentRefs": PARENTS})
