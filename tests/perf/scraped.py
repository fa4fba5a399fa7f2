"""Figures from a page of Prometheus metrics: sums, means and quantiles of what was added between two readings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Sample = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Samples by name and labels."""

    samples: Mapping[Sample, float]

    @classmethod
    def parse(cls, text: str) -> Metrics:
        """Read the text format; comments are skipped."""
        found: dict[Sample, float] = {}
        for line in text.splitlines():
            match = _SAMPLE.match(line)
            if match is not None:
                found[match[1], frozenset(_LABEL.findall(match[2] or ""))] = float(match[3])
        return cls(found)

    def since(self, earlier: Metrics) -> Metrics:
        """Return what was added: for counters and histograms."""
        return Metrics({sample: value - earlier.samples.get(sample, 0.0) for sample, value in self.samples.items()})

    def total(self, metric: str, /, **labels: str) -> float:
        """Return the sum of all samples of a name that have these labels."""
        wanted = set(labels.items())
        return sum(value for (known, given), value in self.samples.items() if known == metric and wanted <= given)

    def mean(self, histogram: str, /, **labels: str) -> float:
        """Return the mean of what a histogram has seen; 0 when it has seen nothing."""
        count = self.total(f"{histogram}_count", **labels)
        return self.total(f"{histogram}_sum", **labels) / count if count else 0.0

    def quantile(self, histogram: str, share: float, /, **labels: str) -> float:
        """Return the upper bound of the bucket that holds a quantile: never less than the quantile itself."""
        buckets: dict[float, float] = {}
        for (name, given), value in self.samples.items():
            if name == f"{histogram}_bucket" and set(labels.items()) <= given:
                bound = float(dict(given)["le"])
                buckets[bound] = buckets.get(bound, 0.0) + value
        wanted = share * max(buckets.values(), default=0.0)
        return next((bound for bound, seen in sorted(buckets.items()) if seen >= wanted), 0.0)
