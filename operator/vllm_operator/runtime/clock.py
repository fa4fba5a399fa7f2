"""Time and chance: what the pure parts are given and never take."""

from __future__ import annotations

import random
from datetime import UTC, datetime


def jitter() -> float:
    """A factor that spreads what would otherwise happen at the same moment: 1 ± 20 %."""
    return random.uniform(0.8, 1.2)


def utc_now() -> str:
    """The time as Kubernetes writes it in conditions."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_now_micro() -> str:
    """The time as Kubernetes writes it in Events and Leases."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
