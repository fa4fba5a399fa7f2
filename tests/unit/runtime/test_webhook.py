"""The webhook's socket: reviews of every size and shape that can arrive, and Kopf's faults behind it."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientSession
from tests.controlplane.plane import free_ports

from vllm_operator.runtime.webhook import WebhookServer

REQUEST: dict[str, Any] = {
    "uid": "review-1",
    "resource": {"group": "vllm-operator.io", "version": "v1alpha1", "resource": "vllmdeployments"},
    "operation": "CREATE",
    "userInfo": {"username": "somebody"},
    "object": {"metadata": {"name": "model", "namespace": "team", "uid": "cr-1"}, "spec": {}},
}


class Judge:
    """What Kopf would do; `seen` is what it was given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[Any] = []
        self.error = error

    async def __call__(self, review: Any, **_: Any) -> Any:
        self.seen.append(review)
        if self.error is not None:
            raise self.error
        return {"response": {"uid": review["request"]["uid"], "allowed": False}}


async def answered(body: bytes, judge: Judge, *, path: str = "/feasibility") -> tuple[int, bytes]:
    (port,) = free_ports(1)
    server = WebhookServer("127.0.0.1", port, None, path="/feasibility")(judge)
    await anext(server)
    try:
        async with (
            ClientSession() as session,
            session.post(f"http://127.0.0.1:{port}{path}", data=BytesIO(body)) as response,
        ):
            return response.status, await response.read()
    finally:
        await server.aclose()  # type: ignore[attr-defined]


def review(**changes: Any) -> bytes:
    return json.dumps({"kind": "AdmissionReview", "request": {**REQUEST, **changes}}).encode()


async def test_a_review_is_judged() -> None:
    status, body = await answered(review(), Judge())
    assert (status, json.loads(body)["response"]["allowed"]) == (200, False)


async def test_two_versions_of_the_largest_object_are_judged() -> None:
    large = {"metadata": {"annotations": {"a": "x" * 3 * 2**20}}}
    status, _ = await answered(review(operation="UPDATE", object=large, oldObject=large), Judge())
    assert status == 200


async def test_a_deeply_nested_object_is_judged() -> None:
    judge = Judge()
    deep = b'{"a":' * 9_900 + b"1" + b"}" * 9_900
    status, _ = await answered(review().replace(b'"spec": {}', b'"spec": ' + deep), judge)
    assert status == 200
    assert judge.seen[0]["request"]["object"]["metadata"]["name"] == "model"


UNSOUND = {
    "nothing": b"",
    "a list": b"[]",
    "no request": b'{"request": null}',
    "another resource": review(resource={"group": "apps", "version": "v1", "resource": "deployments"}),
    "no user": review(userInfo=None),
    "no object": review(object=None),
    "an object that is text": review(object="model"),
    "no metadata": review(object={"spec": {}}),
    "a uid that is a list": review(object={"metadata": {"uid": []}}),
    "an operation that is a number": review(operation=7),
    "half a character": review(object={"metadata": {"name": "\ud800"}}),
    "never closed": b'{"request":' * 20_000,
}


@pytest.mark.parametrize("body", UNSOUND.values(), ids=UNSOUND.keys())
async def test_what_is_no_review_is_said_to_be_none(body: bytes) -> None:
    judge = Judge()
    status, text = await answered(body, judge)
    assert status == 400
    assert text
    assert judge.seen == []


async def test_a_fault_behind_the_socket_admits_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    status, body = await answered(review(), Judge(RuntimeError("a fault")))
    answer = json.loads(body)["response"]
    assert (status, answer["uid"], answer["allowed"]) == (200, "review-1", True)
    assert answer["warnings"]
    assert "admission failed" in caplog.text


async def test_another_path_is_not_served() -> None:
    status, _ = await answered(review(), Judge(), path="/elsewhere")
    assert status == 404
