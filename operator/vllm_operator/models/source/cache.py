"""Facts that were loaded once: kept for a while, asked for once at a time."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.models.errors import ModelGated, ModelNotFound, ModelSourceError, ModelUnreadable, SourceOffline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vllm_operator.models.facts import ModelFacts

_COMMIT = re.compile(r"[0-9a-f]{40}")

# How long an answer stands before the source is asked again, in seconds.
_BRANCH_SECONDS = 600.0
"""A branch or tag may move."""
_FAILURE_SECONDS: dict[type[ModelSourceError], float] = {
    ModelNotFound: 60.0,
    ModelGated: 60.0,
    ModelUnreadable: 300.0,
    SourceOffline: 15.0,
}


@dataclass(frozen=True, slots=True)
class _Key:
    """What was asked for; of the token only a hash, so that accounts do not see each other's models."""

    uri: str
    revision: str | None
    account: str


@dataclass(frozen=True, slots=True)
class _Entry:
    outcome: ModelFacts | ModelSourceError
    expires: float


class FactsCache:
    """Keeps facts and failures by model, revision and account. A commit's facts never expire."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, capacity: int = 128) -> None:
        self._clock = clock
        self._capacity = capacity
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._running: dict[_Key, asyncio.Task[ModelFacts]] = {}

    def peek(self, uri: str, *, revision: str | None = None, token: str | None = None) -> ModelFacts | None:
        """The facts if they are at hand, without asking anyone; stale ones are better than none."""
        entry = self._entries.get(_key(uri, revision, token))
        return None if entry is None or isinstance(entry.outcome, ModelSourceError) else entry.outcome

    async def get(
        self,
        uri: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        load: Callable[[], Awaitable[ModelFacts]],
    ) -> ModelFacts:
        """The facts at hand, or those that `load` brings; callers that ask at the same time share one load.

        Raises the `ModelSourceError` of the load, and the same again until it is worth another try.
        """
        key = _key(uri, revision, token)
        entry = self._entries.get(key)
        if entry is not None and self._clock() < entry.expires:
            self._entries.move_to_end(key)
            if isinstance(entry.outcome, ModelSourceError):
                raise _again(entry.outcome)
            return entry.outcome
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._load(key, load), name=f"facts {uri}")
            self._running[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        # One caller that gives up must not take the facts from the others.
        return await asyncio.shield(task)

    async def _load(self, key: _Key, load: Callable[[], Awaitable[ModelFacts]]) -> ModelFacts:
        try:
            facts = await load()
        except ModelSourceError as error:
            self._keep(key, error, self._clock() + _FAILURE_SECONDS.get(type(error), 60.0))
            raise
        pinned = key.revision is not None and _COMMIT.fullmatch(key.revision) is not None
        self._keep(key, facts, float("inf") if pinned else self._clock() + _BRANCH_SECONDS)
        return facts

    def _keep(self, key: _Key, outcome: ModelFacts | ModelSourceError, expires: float) -> None:
        known = self._entries.get(key)
        if isinstance(outcome, SourceOffline) and known is not None and not isinstance(known.outcome, ModelSourceError):
            # What was true before the source went away still is, until it says otherwise.
            outcome = known.outcome
        self._entries[key] = _Entry(outcome, expires)
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def _finished(self, key: _Key, task: asyncio.Task[ModelFacts]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()


def _key(uri: str, revision: str | None, token: str | None) -> _Key:
    account = hashlib.sha256(token.encode()).hexdigest() if token else ""
    return _Key(uri.removeprefix("hf://"), revision, account)


def _again(error: ModelSourceError) -> ModelSourceError:
    """A fresh error of the same kind: one instance raised twice would gather tracebacks."""
    return type(error)(*error.args)
