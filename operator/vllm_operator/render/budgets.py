"""How long a start may take and how long a stop does, in seconds.

A blanket figure is either too short for a large model or too long for a crash to be noticed, so the budget follows from
the bytes that have to be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ENGINE_START_SECONDS: Final = 600
"""Imports, compilation, CUDA graphs and warm-up without the weights: 52 to 59 s on a CPU, up to 5 minutes cold with
torch.compile on large models (public start-up logs); doubled."""

HUB_BYTES_PER_SECOND: Final = 40_000_000
"""A slow but usable download: a third of a gigabit line."""

VOLUME_BYTES_PER_SECOND: Final = 100_000_000
"""The slowest common network volume (125 MB/s, AWS gp3 baseline) less a fifth."""

UNKNOWN_SIZE_SECONDS: Final = 5400
"""Where nobody knows the bytes: the engine's start and 200 GB at the hub's speed."""

PROBE_PERIOD_SECONDS: Final = 10
IMAGE_PULL_SECONDS: Final = 900
"""The engine's image has about 10 GB; its pull comes before the startup probe and counts for the rollout's deadline."""

PRE_STOP_SECONDS: Final = 15
"""Endpoints are gone from all proxies by then: new requests stop before the server does."""

SHUTDOWN_TIMEOUT_SECONDS: Final = 60
"""How long vLLM finishes accepted requests after SIGTERM; its default of 0 cuts streams."""

GRACE_MARGIN_SECONDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Seconds for one pod."""

    probe_period_seconds: int
    startup_seconds: int
    startup_failure_threshold: int
    progress_deadline_seconds: int
    pre_stop_seconds: int
    shutdown_timeout_seconds: int
    grace_period_seconds: int

    @property
    def worker_pre_stop_seconds(self) -> int:
        """How long a worker stays when its group ends: as long as its leader may finish requests, which need it."""
        return self.pre_stop_seconds + self.shutdown_timeout_seconds


def budgets(checkpoint_bytes: int | None, *, from_hub: bool) -> Budgets:
    """Return the budgets of a model whose weight files have so many bytes (None: unknown)."""
    if checkpoint_bytes is None:
        startup = UNKNOWN_SIZE_SECONDS
    else:
        speed = HUB_BYTES_PER_SECOND if from_hub else VOLUME_BYTES_PER_SECOND
        startup = ENGINE_START_SECONDS + -(-checkpoint_bytes // speed)
    threshold = -(-startup // PROBE_PERIOD_SECONDS)
    return Budgets(
        probe_period_seconds=PROBE_PERIOD_SECONDS,
        startup_seconds=threshold * PROBE_PERIOD_SECONDS,
        startup_failure_threshold=threshold,
        progress_deadline_seconds=threshold * PROBE_PERIOD_SECONDS + IMAGE_PULL_SECONDS,
        pre_stop_seconds=PRE_STOP_SECONDS,
        shutdown_timeout_seconds=SHUTDOWN_TIMEOUT_SECONDS,
        grace_period_seconds=PRE_STOP_SECONDS + SHUTDOWN_TIMEOUT_SECONDS + GRACE_MARGIN_SECONDS,
    )
