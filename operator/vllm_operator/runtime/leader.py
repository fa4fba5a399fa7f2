"""Leader election by a Lease: all replicas watch and answer the webhook, one reconciles.

As in client-go: a replica leads while it renews in time; another takes over when the Lease has not *changed* for its
duration by that replica's own clock, so that clocks need not agree. A leader that cannot renew steps down before that,
and stands again: it keeps its picture of the cluster and its webhook, which a restart would throw away.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.runtime.kube import LEASES, ApiError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.runtime.kube import Kube

_LOGGER = logging.getLogger(__name__)

DURATION_SECONDS: Final = 15.0
RENEW_WITHIN_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 2.0


class Sole:
    """Stands in for the election where there is no other replica."""

    def __init__(self) -> None:
        self.leading = asyncio.Event()
        self.leading.set()
        self.following = asyncio.Event()

    def seconds_left(self) -> float:
        """Return that it leads for ever."""
        return math.inf

    async def run(self) -> None:
        """Do nothing, until cancelled."""
        await self.following.wait()

    async def release(self) -> None:
        """Do nothing: nobody waits for it."""


@dataclass
class Election:
    """One replica's part in the election. Of `leading` and `following` always one is set."""

    kube: Kube
    namespace: str
    name: str
    identity: str
    now: Callable[[], str]
    clock: Callable[[], float] = time.monotonic
    """Seconds; not the event loop's, which stands still while one of its steps is held up."""
    leading: asyncio.Event = field(default_factory=asyncio.Event)
    following: asyncio.Event = field(default_factory=asyncio.Event)
    _renewed_at: float = 0.0
    _seen: tuple[str, str] = ("", "")
    _seen_at: float = 0.0

    def __post_init__(self) -> None:
        self.following.set()

    def seconds_left(self) -> float:
        """Return for how long the Lease is certainly still this replica's; 0 while it does not lead."""
        return max(0.0, self._renewed_at + RENEW_WITHIN_SECONDS - self.clock()) if self.leading.is_set() else 0.0

    async def run(self) -> None:
        """Lead as soon and as long as possible, until cancelled."""
        while True:
            await self._stand()
            await asyncio.sleep(min(RETRY_SECONDS, self.seconds_left()) if self.leading.is_set() else RETRY_SECONDS)

    async def _stand(self) -> None:
        """Try to take or renew the Lease once, and draw the consequence."""
        # From when the request is sent: the Lease is renewed at that moment at the earliest.
        asked_at = self.clock()
        within = RENEW_WITHIN_SECONDS / 2
        if self.leading.is_set():
            within = min(within, self.seconds_left())
        try:
            async with asyncio.timeout(within):
                held = await self._try()
        except (ApiError, Unreachable, TimeoutError) as error:
            _LOGGER.warning("the leader's Lease could not be read or renewed", extra={"reason": str(error)})
            if self.leading.is_set() and not self.seconds_left():
                self._step_down(f"the Lease was not renewed for {RENEW_WITHIN_SECONDS:.0f} s")
            return
        if held:
            self._renewed_at = asked_at
            if not self.leading.is_set():
                _LOGGER.info("this replica leads", extra={"reason": self.identity})
                self.following.clear()
                self.leading.set()
        elif self.leading.is_set():
            self._step_down("another replica holds the Lease")

    def _step_down(self, why: str) -> None:
        _LOGGER.warning("this replica leads no longer", extra={"reason": why})
        self.leading.clear()
        self.following.set()

    async def release(self) -> None:
        """Give the Lease up, so that another replica need not wait for it to expire."""
        if not self.leading.is_set():
            return
        self.leading.clear()
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                lease = await self.kube.get(LEASES, self.namespace, self.name)
                if lease["spec"].get("holderIdentity") == self.identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self.now()}
                    await self.kube.update(LEASES, self.namespace, lease)
        except (ApiError, Unreachable, TimeoutError) as error:
            _LOGGER.warning("the Lease was not released; it expires by itself", extra={"reason": str(error)})

    async def _try(self) -> bool:
        """Take or renew the Lease; whether it is ours now."""
        try:
            lease = await self.kube.get(LEASES, self.namespace, self.name)
        except ApiError as error:
            if error.status != 404:
                raise
            return await self._create()
        spec: dict[str, Any] = lease.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        if holder and holder != self.identity and not self._expired(holder, spec):
            return False
        changes = {} if holder == self.identity else self._taken_over(spec)
        lease["spec"] = {**spec, **self._claim(), **changes}
        try:
            await self.kube.update(LEASES, self.namespace, lease)
        except ApiError as error:
            if error.status == 409 and holder != self.identity:
                return False  # somebody was faster
            raise  # one that we hold: the next look says who has changed it, and until then it is not renewed
        return True

    async def _create(self) -> bool:
        times = {"acquireTime": self.now(), "leaseTransitions": 0}
        manifest = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"namespace": self.namespace, "name": self.name},
            "spec": {**self._claim(), **times},
        }
        try:
            await self.kube.create(LEASES, self.namespace, manifest)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        return True

    def _expired(self, holder: str, spec: dict[str, Any]) -> bool:
        clock = self.clock()
        seen = (holder, str(spec.get("renewTime") or ""))
        if seen != self._seen:
            self._seen, self._seen_at = seen, clock
        return clock - self._seen_at > float(spec.get("leaseDurationSeconds") or DURATION_SECONDS)

    def _claim(self) -> dict[str, Any]:
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(DURATION_SECONDS),
            "renewTime": self.now(),
        }

    def _taken_over(self, spec: dict[str, Any]) -> dict[str, Any]:
        return {"acquireTime": self.now(), "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
