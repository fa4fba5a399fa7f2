"""What is told of Kopf's listings, and how it is made to try for ever."""

from __future__ import annotations

import asyncio
from itertools import islice

import kopf
from kopf._cogs.aiokits.aiotoggles import ToggleSet
from kopf._cogs.clients.watching import streaming_block
from kopf._cogs.structs.references import Resource

from vllm_operator.runtime.handlers import _Listings, configure_kopf, end_orphans_of_watches


def test_the_first_listing_is_none_that_comes_again() -> None:
    listings = _Listings()
    assert not any(listings.again(None, uid) for uid in ("a", "b", "c"))
    assert not listings.again("ADDED", "d")


def test_a_listing_after_a_live_event_comes_again() -> None:
    listings = _Listings()
    listings.again(None, "a")
    listings.again("MODIFIED", "a")
    assert listings.again(None, "b"), "also of what was not there before"


def test_a_listing_that_shows_the_same_twice_comes_again_although_nothing_happened_in_between() -> None:
    listings = _Listings()
    listings.again(None, "a")
    assert listings.again(None, "a")


def test_kopf_never_runs_out_of_attempts_and_never_hammers() -> None:
    settings = kopf.OperatorSettings()
    configure_kopf(settings)
    backoffs = settings.networking.error_backoffs
    assert not isinstance(backoffs, float)
    assert min(islice(backoffs, 1000)) >= 1.0
    assert list(islice(backoffs, 3)) == list(islice(backoffs, 3)), "each request begins anew"


def test_a_watch_that_was_cancelled_between_two_events_leaves_nothing_that_kopf_would_wait_for() -> None:
    async def left() -> set[asyncio.Task[object]]:
        watched = Resource("vllm-operator.io", "v1alpha1", "vllmdeployments")
        cut_off = streaming_block(resource=watched, namespace=None, operator_paused=ToggleSet(any))
        before = asyncio.all_tasks()
        await cut_off.__aenter__()
        assert asyncio.all_tasks() > before, "Kopf waits for a pause"
        end_orphans_of_watches()
        orphans = asyncio.all_tasks() - before
        await asyncio.wait(orphans, timeout=1)
        return asyncio.all_tasks() - before

    assert asyncio.run(left()) == set()
