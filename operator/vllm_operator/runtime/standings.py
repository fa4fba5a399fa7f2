"""How all VLLMDeployments stand, counted when Prometheus asks: few series, however many resources there are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vllm_operator.api import conditions
from vllm_operator.planning.plan import OomRisk, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import CollectorRegistry

NONE: Final = "None"
"""Label of a resource that has no status yet, or no such statement in it."""
OTHER: Final = "Other"
"""Label of a text that is none of the operator's own: a status can be written by others."""

_VERDICTS: Final = frozenset(verdict.value for verdict in Verdict)
_RISKS: Final = frozenset(risk.value for risk in OomRisk)
_REASONS: Final = frozenset(
    value for name, value in vars(conditions).items() if name.isupper() and isinstance(value, str)
)


class Standing(NamedTuple):
    """What one status says, as label values."""

    verdict: str
    oom_risk: str
    ready: bool
    degraded: str
    """Reason of the condition Degraded where that is True."""


def standing_of(status: Mapping[str, Any]) -> Standing:
    """Return how a resource stands according to its status, {} included."""
    found = {entry.get("type"): entry for entry in status.get("conditions") or () if isinstance(entry, dict)}
    degraded = found.get(conditions.DEGRADED, {})
    return Standing(
        verdict=_known(status.get("verdict"), _VERDICTS),
        oom_risk=_known(status.get("oomRisk"), _RISKS),
        ready=found.get(conditions.READY, {}).get("status") == "True",
        degraded=_known(degraded.get("reason"), _REASONS) if degraded.get("status") == "True" else NONE,
    )


def _known(value: object, values: frozenset[str]) -> str:
    if value is None:
        return NONE
    return value if isinstance(value, str) and value in values else OTHER


class StandingsCollector(Collector):
    """Three gauges over all resources."""

    def __init__(self, standings: Callable[[], Iterable[Standing]], registry: CollectorRegistry) -> None:
        self._standings = standings
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Count them; verdicts and risks without a resource are there with 0, so that alerts can rely on them."""
        counted = Counter(self._standings())
        verdicts = dict.fromkeys((*sorted(_VERDICTS), NONE), 0)
        risks = dict.fromkeys((*sorted(_RISKS), NONE), 0)
        ready = {"true": 0, "false": 0}
        degraded: Counter[str] = Counter()
        for standing, count in counted.items():
            verdicts[standing.verdict] = verdicts.get(standing.verdict, 0) + count
            risks[standing.oom_risk] = risks.get(standing.oom_risk, 0) + count
            ready["true" if standing.ready else "false"] += count
            degraded[standing.degraded] += count
        del degraded[NONE]
        yield _family("vllm_operator_resources_by_verdict", "VLLMDeployments, by verdict.", "verdict", verdicts)
        yield _family("vllm_operator_resources_by_oom_risk", "VLLMDeployments, by OOM risk.", "oom_risk", risks)
        yield _family("vllm_operator_resources_by_ready", "VLLMDeployments, by Ready.", "ready", ready)
        yield _family(
            "vllm_operator_resources_degraded", "VLLMDeployments that are Degraded, by reason.", "reason", degraded
        )


def _family(name: str, text: str, label: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], float(count))
    return family
