"""Python's garbage collector, set for a process that keeps a cluster in memory and must answer within milliseconds.

By default each 700 new objects start a collection, and now and then it looks through all that is kept: on a cluster of
5,000 resources that takes up to 0.3 s, in which no admission review is answered, and a ninth of a cold start's CPU.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (20_000, 20, 100)
"""New objects before the youngest are looked through (25 ms at most on that cluster), then rounds before the older ones
are. Few objects here are in cycles: what reference counting does not free are mostly exceptions with their frames."""


def collect_rarely() -> None:
    """Look through young objects in larger lots, and hardly ever through all."""
    gc.set_threshold(*THRESHOLDS)


def keep_for_good() -> None:
    """Never again look through what is there now: modules, and the lists that the operator started with."""
    gc.freeze()
