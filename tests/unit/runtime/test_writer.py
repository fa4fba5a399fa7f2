"""What the API server says is either about the object, and told, or about the moment, and tried again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.runtime.fake_kube import FakeKube

from vllm_operator.api import conditions as reasons
from vllm_operator.runtime.children import Children
from vllm_operator.runtime.kube import ApiError
from vllm_operator.runtime.writer import NAMESPACE_TERMINATING, OwnerGone, Writer, wanted_of

OWNER = {"kind": "VLLMDeployment", "name": "model", "uid": "cr-1", "controller": True}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "model", "namespace": "team", "ownerReferences": [OWNER]},
    "spec": {},
}


def _refusing(error: ApiError) -> Writer:
    kube = FakeKube()

    def refuse(verb: str, kind: str, name: str) -> None:
        raise error

    kube.refuse = refuse
    return Writer(kube, Children())


@pytest.mark.parametrize(
    "error",
    [
        ApiError(422, "Invalid", "spec.ports: Required value"),
        ApiError(403, "Forbidden", "exceeded quota"),
        ApiError(500, "", "failed to create typed patch object (team/model): .spec.x: field not declared in schema"),
        ApiError(500, "", "failed to convert new object (team/model) to proper version: quantities must match"),
    ],
)
async def test_a_refusal_of_the_object_is_told(error: ApiError) -> None:
    (wanted,) = wanted_of([SERVICE])
    problem = await _refusing(error).write("team/model", "cr-1", wanted)
    assert problem is not None
    assert problem.reason == reasons.APPLY_FAILED
    assert str(error) in problem.message


async def test_nothing_is_made_in_a_namespace_that_is_being_deleted() -> None:
    (wanted,) = wanted_of([SERVICE])
    refusal = ApiError(403, "Forbidden", "because it is being terminated", causes=frozenset({NAMESPACE_TERMINATING}))
    with pytest.raises(OwnerGone):
        await _refusing(refusal).write("team/model", "cr-1", wanted)


@pytest.mark.parametrize("status", [409, 429, 500, 503])
async def test_a_server_that_cannot_answer_now_is_asked_again(status: int) -> None:
    (wanted,) = wanted_of([SERVICE])
    with pytest.raises(ApiError):
        await _refusing(ApiError(status, "", "etcdserver: request timed out")).write("team/model", "cr-1", wanted)
