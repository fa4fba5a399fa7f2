"""What was observed, kept in one ConfigMap of the operator's namespace, so that a restart loses nothing of it.

The chart makes the ConfigMap; only the replica that leads writes it, and only if nobody else has since it was read.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.observations import DATA_KEY, read_observations, write_observations
from vllm_operator.planning.calibration import Observations
from vllm_operator.runtime.kube import CONFIG_MAPS, ApiError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.api.observations import Observation
    from vllm_operator.runtime.kube import Objects

_LOGGER = logging.getLogger(__name__)

GATHER_SECONDS: Final = 5.0
"""How long more is waited for once something is new: a fleet that starts is one write and not one for each pod."""
RETRY_SECONDS: Final = 15.0


class ObservationBook:
    """The observations, as the ConfigMap has them and as they were learned since."""

    def __init__(
        self,
        kube: Objects,
        *,
        namespace: str,
        name: str | None,
        reread_seconds: float,
        jitter: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """Without a `name` nothing is kept beyond the life of the process."""
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._reread_seconds = reread_seconds
        self._jitter = jitter
        self._kept: dict[str, Any] | None = None
        """The ConfigMap as it was read or written last; None where there is none, or somebody else has written it."""
        self._news = asyncio.Event()
        self.observations = Observations()
        self.loaded = asyncio.Event()
        """Set once the ConfigMap was read, or is known not to be readable."""
        self.ignored = 0
        """Observations of the ConfigMap that cannot be true."""

    def learn(self, observation: Observation) -> None:
        """Take an observation; it is used at once and written soon, if it says anything new."""
        more = self.observations.with_one(observation)
        if more is not self.observations:
            self.observations = more
            self._news.set()

    async def run(self, leading: asyncio.Event) -> None:
        """Read the ConfigMap, write it when something is new while `leading`, read it again while not."""
        while True:
            if await self._load():
                break
            await asyncio.sleep(self._jitter())
        while True:
            waits_for = self._news if leading.is_set() else leading
            came = await _within(waits_for, self._reread_seconds * self._jitter())
            if waits_for is leading:
                # What the leader has written meanwhile; once more before this replica leads itself.
                await self._load()
            elif came:
                await self._write_news(leading)

    async def _write_news(self, leading: asyncio.Event) -> None:
        await asyncio.sleep(GATHER_SECONDS * self._jitter())
        if not leading.is_set():
            return  # It stays news for when this replica leads again.
        self._news.clear()
        if self._name is not None and not await self._write():
            self._news.set()
            await asyncio.sleep(RETRY_SECONDS * self._jitter())

    async def _load(self) -> bool:
        """Read the ConfigMap; False when the API server is to be asked again."""
        if self._name is not None:
            try:
                found = await self._kube.get(CONFIG_MAPS, self._namespace, self._name)
            except ApiError as error:
                if error.status not in (403, 404):
                    return False
                _LOGGER.warning("observations are not kept: no ConfigMap for them", extra={"reason": str(error)})
                self._kept = None
            except Unreachable:
                return False
            else:
                self._take(found)
        self.loaded.set()
        return True

    def _take(self, found: dict[str, Any]) -> None:
        """Join what the ConfigMap has with what is known; what cannot be true is left out and said."""
        self._kept = found
        text = str((found.get("data") or {}).get(DATA_KEY) or "")
        if not text:
            return
        try:
            observations, problems = read_observations(text)
        except ValueError as error:
            observations, problems = (), (f"{DATA_KEY} of ConfigMap {self._name} is ignored: {error}",)
        self.ignored = len(problems)
        for problem in problems[:10]:
            _LOGGER.warning("an observation is ignored", extra={"reason": problem})
        self.observations = Observations([*self.observations, *observations])

    async def _write(self) -> bool:
        """Write all that is known; False when it is to be tried again."""
        if self._kept is None and not await self._load():
            return False
        if self._kept is None:  # there is no ConfigMap, and it is not ours to make
            return True
        data = {**(self._kept.get("data") or {}), DATA_KEY: write_observations(self.observations)}
        try:
            self._kept = await self._kube.update(CONFIG_MAPS, self._namespace, {**self._kept, "data": data})
        except (ApiError, Unreachable) as error:
            _LOGGER.warning("the observations were not written", extra={"reason": str(error)})
            if isinstance(error, ApiError) and error.status in (403, 404, 409):
                # Somebody else has written it, or it is gone: what is there now comes first.
                self._kept = None
            return False
        return True


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event happens in that time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
