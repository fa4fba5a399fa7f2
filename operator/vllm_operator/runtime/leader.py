"""Leader election by a Lease: all replicas watch and answer the webhook, one reconciles.

As in client-go: a replica leads while it renews in time; another takes over when the Lease has not *changed* for its
duration by that replica's own clock, so that clocks need not agree. A leader that cannot renew stops before that.
"""

from __future__ import annotations

import asyncio
import logging
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


class LeadershipLost(Exception):
    """The Lease could not be renewed in time, or is another's: this process must stop writing at once."""


@dataclass
class Election:
    """One replica's part in the election."""

    kube: Kube
    namespace: str
    name: str
    identity: str
    now: Callable[[], str]
    leading: asyncio.Event = field(default_factory=asyncio.Event)
    _seen: tuple[str, str] = ("", "")
    _seen_at: float = 0.0

    async def run(self) -> None:
        """Lead as soon as possible and as long as possible.

        Raises:
            LeadershipLost: it led, and does no longer.
        """
        loop = asyncio.get_running_loop()
        renewed = 0.0
        while True:
            try:
                async with asyncio.timeout(RENEW_WITHIN_SECONDS / 2):
                    held = await self._try()
            except (ApiError, Unreachable, TimeoutError) as error:
                held = False
                _LOGGER.warning("the leader's Lease could not be read or renewed", extra={"reason": str(error)})
            else:
                if self.leading.is_set() and not held:
                    raise LeadershipLost("another replica holds the Lease")
            if held:
                renewed = loop.time()
                if not self.leading.is_set():
                    _LOGGER.info("this replica leads", extra={"reason": self.identity})
                    self.leading.set()
            elif self.leading.is_set() and loop.time() - renewed > RENEW_WITHIN_SECONDS:
                raise LeadershipLost(f"the Lease was not renewed for {RENEW_WITHIN_SECONDS:.0f} s")
            await asyncio.sleep(RETRY_SECONDS)

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
            if error.status == 409:  # somebody was faster; the next look says who
                return holder == self.identity
            raise
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
        clock = asyncio.get_running_loop().time()
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
