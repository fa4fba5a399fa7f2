"""The election among replicas that share a Lease, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.runtime.fake_kube import FakeKube
from tests.unit.runtime.test_queue import in_virtual_time

from vllm_operator.runtime.kube import LEASES, Unreachable
from vllm_operator.runtime.leader import DURATION_SECONDS, RENEW_WITHIN_SECONDS, Election, LeadershipLost

TAKE_OVER_SECONDS = 20.0


def replica(kube: FakeKube, name: str) -> Election:
    ticks = iter(range(10_000))
    return Election(kube, "ns", "lease", name, lambda: f"2026-01-01T00:00:{next(ticks):02d}Z")


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


def test_a_leader_that_cannot_renew_stops_before_another_may_start() -> None:
    async def main() -> None:
        kube = FakeKube()
        first = replica(kube, "a")
        running = asyncio.ensure_future(first.run())
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()

        def unreachable(verb: str, kind: str, name: str) -> None:
            raise Unreachable("no route")

        kube.refuse = unreachable
        with pytest.raises(LeadershipLost):
            await running
        assert RENEW_WITHIN_SECONDS <= asyncio.get_running_loop().time() - began < DURATION_SECONDS

    in_virtual_time(main())


def test_a_leader_whose_lease_was_taken_stops() -> None:
    async def main() -> None:
        kube = FakeKube()
        first = replica(kube, "a")
        running = asyncio.ensure_future(first.run())
        await asyncio.sleep(1)
        lease(kube)["holderIdentity"] = "b"
        with pytest.raises(LeadershipLost):
            await running

    in_virtual_time(main())
