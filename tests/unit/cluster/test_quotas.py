"""What a namespace's quotas let be made."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.cluster.quotas import QuotaRecord, Shortage, project_quota, shortage_of, unstated_limits

GPU = "nvidia.com/gpu"
EACH = {GPU: 2, "limits.cpu": 4000, "limits.memory": 8 * 2**30, "cpu": 3000, "memory": 6 * 2**30, "pods": 1}


def quota(hard: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "team", "name": "gpus"}, "spec": {"hard": hard, **spec}}


def record(hard: dict[str, Any]) -> QuotaRecord:
    found = project_quota(quota(hard))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("hard", "read"),
    [
        ({"requests.nvidia.com/gpu": "4"}, {GPU: 4}),
        ({"cpu": "1500m", "requests.memory": "64Gi"}, {"cpu": 1500, "memory": 64 * 2**30}),
        ({"cpu": "4", "requests.cpu": "2"}, {"cpu": 2000}),
        ({"pods": "10", "count/pods": "7"}, {"pods": 7}),
        ({"limits.cpu": "1500m", "limits.memory": "1Gi"}, {"limits.cpu": 1500, "limits.memory": 2**30}),
    ],
)
def test_a_quota_is_read_in_the_units_of_pods_requests(hard: dict[str, Any], read: dict[str, int]) -> None:
    assert dict(record(hard).hard) == read


@pytest.mark.parametrize(
    "obj",
    [
        quota({"services": "5", "count/deployments.apps": "2"}),
        quota({"requests.nvidia.com/gpu": "0"}, scopes=["BestEffort"]),
        quota({"requests.nvidia.com/gpu": "0"}, scopes=["NotTerminating", "Terminating"]),
        quota({"requests.nvidia.com/gpu": "0"}, scopeSelector={"matchExpressions": [{"scopeName": "PriorityClass"}]}),
    ],
    ids=["of other things", "of other pods", "of no pods", "of some priorities"],
)
def test_a_quota_that_need_not_concern_our_pods_limits_nothing(obj: dict[str, Any]) -> None:
    assert project_quota(obj) is None


def test_a_quota_of_all_our_pods_by_scope_counts() -> None:
    scoped = project_quota(quota({"requests.nvidia.com/gpu": "1"}, scopes=["NotTerminating", "NotBestEffort"]))
    assert scoped is not None


def shortage(*hards: dict[str, Any], held: dict[str, int] | None = None, replicas: int = 2) -> Shortage | None:
    return shortage_of([record(hard) for hard in hards], held or {}, each=EACH, replicas=replicas)


def test_a_quota_with_room_for_all_is_no_shortage() -> None:
    assert shortage({"requests.nvidia.com/gpu": "4", "pods": "2"}) is None
    assert shortage({"requests.amd.com/gpu": "0"}) is None


def test_the_tightest_of_all_limits_is_named_with_its_sum() -> None:
    found = shortage({"requests.cpu": "40", "memory": "8Gi"}, {"requests.nvidia.com/gpu": "4"}, held={GPU: 3})
    assert found is not None
    assert found.message == (
        "the ResourceQuota 'gpus' of namespace team allows 4 requests.nvidia.com/gpu, of which others hold 3: 0 of 2"
        " replicas of 2 each may be made; raise the quota, free some of it, or lower spec.replicas"
    )


@pytest.mark.parametrize(
    ("hard", "says"),
    [
        ({"cpu": "4500m"}, "allows 4.5 requests.cpu: 1 of 2 replicas of 3 each"),
        ({"memory": "7Gi"}, "allows 7Gi requests.memory: 1 of 2 replicas of 6Gi each"),
        ({"limits.cpu": "7500m"}, "allows 7.5 limits.cpu: 1 of 2 replicas of 4 each"),
        ({"limits.memory": "9Gi"}, "allows 9Gi limits.memory: 1 of 2 replicas of 8Gi each"),
        ({"pods": "1"}, "allows 1 pods: 1 of 2 replicas of 1 each"),
    ],
)
def test_amounts_are_written_as_kubernetes_writes_them(hard: dict[str, Any], says: str) -> None:
    found = shortage(hard)
    assert found is not None
    assert says in found.message


def test_what_others_hold_beyond_a_quota_that_was_lowered_is_not_owed() -> None:
    found = shortage({"requests.nvidia.com/gpu": "2"}, held={GPU: 8})
    assert found is not None
    assert found.allowed == 0


def test_a_quota_of_limits_that_pods_do_not_state_is_told() -> None:
    limited = record({"limits.memory": "64Gi", "requests.cpu": "40"})
    assert unstated_limits([limited], EACH) == ""
    said = unstated_limits([limited], {"cpu": 3000, "limits.cpu": 1000})
    assert said.startswith("the ResourceQuota 'gpus' of namespace team counts limits.memory, and")
    assert "set resources.limits.memory of every container, `engine` too, in spec.podTemplate" in said
