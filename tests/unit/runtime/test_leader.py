"""The election among replicas that share a Lease, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.runtime.fake_kube import FakeKube
from tests.unit.runtime.test_queue import in_virtual_time

from vllm_operator.runtime.fence import Fenced, NotLeading
from vllm_operator.runtime.kube import EVENTS, LEASES, ApiError, Unreachable
from vllm_operator.runtime.leader import DURATION_SECONDS, RENEW_WITHIN_SECONDS, RETRY_SECONDS, Election, Sole

TAKE_OVER_SECONDS = 20.0


def replica(kube: FakeKube, name: str) -> Election:
    ticks = iter(range(10_000))
    clock = asyncio.get_running_loop().time
    return Election(kube, "ns", "lease", name, lambda: f"2026-01-01T00:00:{next(ticks):02d}Z", clock=clock)


def lease(kube: FakeKube) -> dict[str, object]:
    spec: dict[str, object] = kube.objects[(LEASES.plural, "ns", "lease")]["spec"]
    return spec


def test_one_of_two_replicas_leads_and_the_other_follows() -> None:
    async def main() -> None:
        kube = FakeKube()
        first, second = replica(kube, "a"), replica(kube, "b")
        tasks = [asyncio.ensure_future(first.run()), asyncio.ensure_future(second.run())]
        await asyncio.sleep(60)
        assert first.leading.is_set()
        assert not second.leading.is_set()
        assert lease(kube)["holderIdentity"] == "a"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    in_virtual_time(main())


def test_a_replica_that_died_is_replaced_in_time_and_never_joined() -> None:
    async def main() -> None:
        kube = FakeKube()
        first, second = replica(kube, "a"), replica(kube, "b")
        running = asyncio.ensure_future(first.run())
        await asyncio.sleep(5)
        following = asyncio.ensure_future(second.run())
        await asyncio.sleep(5)
        running.cancel()
        await asyncio.sleep(DURATION_SECONDS - 5)
        assert not second.leading.is_set()
        await asyncio.sleep(TAKE_OVER_SECONDS - DURATION_SECONDS + 5)
        assert second.leading.is_set()
        assert lease(kube)["leaseTransitions"] == 1
        following.cancel()
        await asyncio.gather(running, following, return_exceptions=True)

    in_virtual_time(main())


def test_a_lease_that_was_released_is_taken_over_at_once() -> None:
    async def main() -> None:
        kube = FakeKube()
        first, second = replica(kube, "a"), replica(kube, "b")
        running = asyncio.ensure_future(first.run())
        await asyncio.sleep(1)
        running.cancel()
        await first.release()
        following = asyncio.ensure_future(second.run())
        await asyncio.sleep(0.1)
        assert second.leading.is_set()
        following.cancel()
        await asyncio.gather(running, following, return_exceptions=True)

    in_virtual_time(main())


def test_a_leader_that_cannot_renew_steps_down_before_another_may_start_and_leads_again_later() -> None:
    async def main() -> None:
        kube = FakeKube()
        first = replica(kube, "a")
        running = asyncio.ensure_future(first.run())
        await asyncio.sleep(1)
        renewed = asyncio.get_running_loop().time()

        def unreachable(verb: str, kind: str, name: str) -> None:
            raise Unreachable("no route")

        answers, kube.refuse = kube.refuse, unreachable
        await first.following.wait()
        assert asyncio.get_running_loop().time() - renewed <= RENEW_WITHIN_SECONDS < DURATION_SECONDS
        assert not first.seconds_left()
        await asyncio.sleep(60)
        kube.refuse = answers
        await asyncio.sleep(RETRY_SECONDS + 0.1)
        assert first.seconds_left()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(main())


def test_a_leader_whose_api_server_does_not_answer_is_fenced_before_another_may_start() -> None:
    async def main() -> None:
        kube = FakeKube()
        first = replica(kube, "a")
        running = asyncio.ensure_future(first.run())
        await asyncio.sleep(1)
        renewed = asyncio.get_running_loop().time()
        silent = asyncio.Event()

        async def get(*_: object) -> dict[str, object]:
            await silent.wait()
            return {}

        kube.get = get  # type: ignore[method-assign,assignment]
        await first.following.wait()
        assert asyncio.get_running_loop().time() - renewed <= RENEW_WITHIN_SECONDS
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(main())


def test_a_leader_that_was_held_up_writes_nothing_more_although_it_has_not_looked_yet() -> None:
    async def main() -> None:
        kube, seconds = FakeKube(), [0.0]
        first = replica(kube, "a")
        first.clock = lambda: seconds[0]
        running = asyncio.ensure_future(first.run())
        await asyncio.sleep(0.1)
        fenced = Fenced(kube, first.seconds_left)
        await fenced.create(EVENTS, "ns", {"metadata": {"namespace": "ns", "name": "before"}})
        # As after SIGSTOP and SIGCONT: the clock has gone on, and no step of the loop has run since.
        seconds[0] = RENEW_WITHIN_SECONDS + 0.1
        assert first.leading.is_set()
        with pytest.raises(NotLeading):
            await fenced.create(EVENTS, "ns", {"metadata": {"namespace": "ns", "name": "after"}})
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(main())


def test_a_write_that_is_not_answered_is_given_up_when_the_lead_ends() -> None:
    async def main() -> None:
        kube = FakeKube()
        first = replica(kube, "a")
        running = asyncio.ensure_future(first.run())
        await asyncio.sleep(0.1)
        running.cancel()
        never = asyncio.Event()

        async def create(*_: object) -> None:
            await never.wait()

        kube.create = create  # type: ignore[method-assign]
        began = asyncio.get_running_loop().time()
        with pytest.raises(NotLeading):
            await Fenced(kube, first.seconds_left).create(EVENTS, "ns", {})
        assert asyncio.get_running_loop().time() - began <= RENEW_WITHIN_SECONDS
        await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(main())


def test_the_only_replica_leads_and_writes_without_a_lease() -> None:
    async def main() -> None:
        kube = FakeKube()
        sole = Sole()
        assert sole.leading.is_set()
        await Fenced(kube, sole.seconds_left).create(EVENTS, "ns", {"metadata": {"namespace": "ns", "name": "event"}})
        assert (LEASES.plural, "ns", "lease") not in kube.objects

    in_virtual_time(main())


def test_a_lease_that_changed_under_its_holder_is_not_renewed() -> None:
    async def main() -> None:
        kube = FakeKube()
        first = replica(kube, "a")
        running = asyncio.ensure_future(first.run())
        await asyncio.sleep(1)

        def conflict(verb: str, kind: str, name: str) -> None:
            raise ApiError(409, "Conflict", "the object has been modified")

        kube.refuse = conflict
        await asyncio.sleep(RENEW_WITHIN_SECONDS)
        assert not first.seconds_left()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(main())


def test_a_leader_whose_lease_was_taken_steps_down() -> None:
    async def main() -> None:
        kube = FakeKube()
        first = replica(kube, "a")
        running = asyncio.ensure_future(first.run())
        await asyncio.sleep(1)
        lease(kube)["holderIdentity"] = "b"
        async with asyncio.timeout(RETRY_SECONDS + 0.1):
            await first.following.wait()
        assert not first.seconds_left()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(main())
