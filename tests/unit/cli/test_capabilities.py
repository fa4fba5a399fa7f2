"""What a cluster can do, by its API server's own word."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.cli.capabilities import capabilities_of_cluster
from vllm_operator.cli.kube_api import ApiServerError, KubeApi
from vllm_operator.cli.nodes import UnreadableInput


class Answering(KubeApi):
    """An API server that has one answer."""

    def __init__(self, answer: ApiServerError | None) -> None:
        self._answer = answer
        self.asked: list[str] = []

    def get(self, path: str, **query: str) -> dict[str, Any]:
        self.asked.append(path)
        if self._answer is not None:
            raise self._answer
        return {"kind": "APIResourceList"}


def test_leaderworkersets_are_there_when_their_group_is_served() -> None:
    api = Answering(None)
    assert capabilities_of_cluster(api).leader_worker_sets
    assert api.asked == ["/apis/leaderworkerset.x-k8s.io/v1"]


def test_they_are_not_when_it_is_not_found() -> None:
    assert not capabilities_of_cluster(Answering(ApiServerError("no such group", status=404))).leader_worker_sets


def test_a_server_that_does_not_answer_is_no_answer() -> None:
    with pytest.raises(UnreadableInput, match="does not answer"):
        capabilities_of_cluster(Answering(ApiServerError("the API server does not answer")))
