"""Events: each said once, and not remembered for ever."""

from __future__ import annotations

from tests.unit.runtime.fake_kube import FakeKube

from vllm_operator.runtime.events import MOST_SAID, MOST_WAITING, Recorder


def recorder() -> Recorder:
    return Recorder(FakeKube(), instance="operator", now=lambda: "2026-01-01T00:00:00.000000Z")


def test_the_same_is_said_once() -> None:
    told = recorder()
    for _ in range(3):
        told.tell("team/model", "cr-1", "Warning", "DoesNotFit", "needs more")
    assert told._waiting.qsize() == 1


def test_what_is_remembered_of_a_resource_that_never_settles_is_bounded() -> None:
    told = recorder()
    for number in range(10 * MOST_WAITING):
        told.tell("team/model", "cr-1", "Warning", "DoesNotFit", f"needs {number} GiB")
    assert told.entries() <= MOST_SAID + MOST_WAITING
