"""What is taken from an answer that refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from vllm_operator.runtime.kube import LONGEST_RETRY_AFTER_SECONDS, ApiError, _raise_for_status


async def _error(text: str, *, status: int = 403, headers: dict[str, str] | None = None) -> ApiError:
    """Return what becomes of an answer."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    application = web.Application()
    application.router.add_get("/", answer)
    async with (
        TestServer(application) as server,
        ClientSession() as session,
        session.get(server.make_url("/")) as response,
    ):
        with pytest.raises(ApiError) as raised:
            await _raise_for_status(response)
    return raised.value


async def test_a_refusal_has_its_reason_its_message_and_its_causes() -> None:
    # As Kubernetes 1.37 answers to an apply into a namespace that is being deleted.
    status = {
        "kind": "Status",
        "reason": "Forbidden",
        "message": "unable to create new content in namespace team because it is being terminated",
        "details": {
            "causes": [
                {
                    "reason": "NamespaceTerminating",
                    "message": "namespace team is being terminated",
                    "field": "metadata",
                },
                {"reason": "Other"},
            ]
        },
    }
    error = await _error(json.dumps(status))
    assert (error.status, error.reason) == (403, "Forbidden")
    assert error.causes == {"NamespaceTerminating", "Other"}
    assert "because it is being terminated" in str(error)


@pytest.mark.parametrize("details", [None, {}, {"causes": None}, {"causes": []}, {"retryAfterSeconds": 1}], ids=repr)
async def test_a_refusal_without_causes_has_none(details: Any) -> None:
    error = await _error(json.dumps({"reason": "Forbidden", "message": "no", "details": details}))
    assert (error.reason, error.causes) == ("Forbidden", frozenset())


@pytest.mark.parametrize(
    "text",
    ["<html>later</html>", "", "[]", "7", '{"details":{"causes":7}}', '{"details":{"causes":["x"]}}', '{"details":[]'],
)
async def test_an_answer_of_any_other_form_is_told_as_it_is(text: str) -> None:
    error = await _error(text, status=502)
    assert (error.status, error.reason, error.causes) == (502, "Bad Gateway", frozenset())
    assert text in str(error)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0", 0.0), ("86400", LONGEST_RETRY_AFTER_SECONDS), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0)],
)
async def test_who_asks_to_be_left_alone_is_for_a_while(header: str, seconds: float) -> None:
    error = await _error("{}", status=429, headers={"Retry-After": header})
    assert error.retry_after_seconds == seconds
