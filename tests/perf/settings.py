"""How large a run is: in full for a report, small for a test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of objects, and durations."""

    pairs: int = 3
    """Bursts of the operator and of the bare client, in alternating order."""
    burst: int = 1000
    nodes: int = 1000
    resources: int = 5000
    """VLLMDeployments of the large cluster."""
    pods: int = 10_000
    """Pods of others in the large cluster."""
    idle_seconds: float = 600.0
    reviews_seconds: float = 30.0
    """How long each load on admission lasts."""


FULL = Sizes()
QUICK = Sizes(pairs=1, burst=200, nodes=200, resources=500, pods=1000, idle_seconds=30, reviews_seconds=10)
"""Seconds instead of minutes: to try a scenario, not to report from."""
