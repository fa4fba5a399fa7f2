"""Waiting for what no watch of the API server tells: a log, a metric, a process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_SECONDS = 0.005
LIST_STEP_SECONDS = 0.1
"""Where a look is a list of many objects: more often, and the API server would do little else."""


class NotInTime(AssertionError):
    """What was waited for did not come about; the message says what."""


def wait_until(
    holds: Callable[[], object], what: str, *, seconds: float = 30.0, step_seconds: float = STEP_SECONDS
) -> float:
    """Return after how many seconds something held; it is looked at every `step_seconds`.

    Raises:
        NotInTime: it did not within `seconds`.
    """
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > seconds:
            raise NotInTime(f"{what}: not within {seconds} s")
        time.sleep(step_seconds)
    return time.monotonic() - begun


def held_within(holds: Callable[[], object], seconds: float) -> bool:
    """Return whether something came to hold within that time."""
    try:
        wait_until(holds, "", seconds=seconds)
    except NotInTime:
        return False
    return True
