"""What a reconcile takes from observations: the figures of `status.observed`, and a plan that knows of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vllm_operator import __version__
from vllm_operator.planning.calibration import calibrated, calibration_of, observation_of
from vllm_operator.planning.observation_keys import key_of
from vllm_operator.planning.observing import findings_of, observed_of, prediction_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry

    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.api.status import ObservedStatus
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.observing import Finding
    from vllm_operator.planning.plan import Plan
    from vllm_operator.runtime.observe import Observer
    from vllm_operator.runtime.observe_book import ObservationBook

MOST_SERIES: Final = 2000
"""VLLMDeployments with metrics of their own; the others are in their status only."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is observed of one deployment, and its plan in that light."""

    plan: Plan
    observed: ObservedStatus | None
    findings: tuple[Finding, ...]


class Observed:
    """Joins what pods report with what was predicted for them, and learns from it."""

    def __init__(self, observer: Observer, book: ObservationBook, now: Callable[[], str]) -> None:
        self._observer = observer
        self._book = book
        self._now = now
        self._shown: dict[str, ObservedStatus] = {}

    def see(
        self,
        key: str,
        spec: VLLMDeploymentSpec,
        plan: Plan,
        facts: ModelFacts | None,
        previous: ObservedStatus | None,
    ) -> Seen:
        """Return what is observed of a deployment; `previous` is what its status says of that."""
        readings = self._observer.of(key)
        prediction = prediction_of(plan, facts)
        observed = observed_of(readings, previous, prediction)
        if observed is not None:
            self._shown[key] = observed
        if observed is None and not len(self._book.observations):
            return Seen(plan, None, ())
        filed_under = key_of(plan, spec)
        if readings:
            fresh = observation_of(
                filed_under, prediction, observed, predicted_by=__version__, now=self._now(), source=key
            )
            if fresh is not None:
                self._book.learn(fresh)
        findings = tuple(findings_of(observed, plan))
        if observed is None or observed.plan_hash != plan.hash:
            shown = calibrated(plan, filed_under, self._book.observations, predicted_by=__version__)
        else:
            # Its own pods say whether the workload holds; what is known of such starts would say it twice.
            found = calibration_of(plan, filed_under, self._book.observations, predicted_by=__version__)
            shown = replace(plan, memory=found.memory) if found is not None else plan
        warnings = (*(one.text for one in findings if one.warns), *shown.warnings)
        return Seen(replace(shown, warnings=warnings), observed, findings)

    def calibrate(self, plan: Plan, spec: VLLMDeploymentSpec) -> Plan:
        """Return a plan that nothing runs of yet, with what is known of such starts."""
        if not len(self._book.observations):
            return plan
        return calibrated(plan, key_of(plan, spec), self._book.observations, predicted_by=__version__)

    def forget(self, key: str) -> None:
        """Drop what is shown of a deployment that is gone."""
        self._shown.pop(key, None)

    def shown(self) -> Iterator[tuple[str, ObservedStatus]]:
        """Yield what is observed by `namespace/name`, as many as have metrics of their own."""
        yield from sorted(self._shown.items())[:MOST_SERIES]


class ObservedCollector(Collector):
    """Predicted and observed KV cache of each deployment, for dashboards; read when Prometheus asks."""

    def __init__(self, observed: Observed, observer: Observer, book: ObservationBook, registry: CollectorRegistry):
        self._observed = observed
        self._observer = observer
        self._book = book
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauges; a deployment that is deleted takes its series with it."""
        of_each = ["namespace", "name"]
        names = "vllm_operator_kv_cache_"
        predicted = GaugeMetricFamily(f"{names}predicted_tokens", "Tokens of KV cache, as predicted.", labels=of_each)
        found = GaugeMetricFamily(f"{names}observed_tokens", "The same, as vLLM reports it.", labels=of_each)
        error = GaugeMetricFamily(
            f"{names}estimate_error_percent",
            "How far the prediction was off; positive where too much was predicted.",
            labels=of_each,
        )
        for key, observed in self._observed.shown():
            labels = key.split("/", 1)
            for family, value in (
                (predicted, observed.predicted_kv_cache_tokens),
                (found, observed.kv_cache_tokens),
                (error, observed.estimate_error_percent),
            ):
                if value is not None:
                    family.add_metric(labels, float(value))
        looks = GaugeMetricFamily(
            "vllm_operator_pod_reads", "Looks at pods' metrics since the start, by result.", labels=["result"]
        )
        for result, count in sorted(self._observer.outcomes.items()):
            looks.add_metric([result], float(count))
        yield from (predicted, found, error, looks)
        yield GaugeMetricFamily("vllm_operator_pods_unread", "Ready pods not read yet.", value=self._observer.unread)
        yield GaugeMetricFamily(
            "vllm_operator_observations", "Observed starts that are known.", value=len(self._book.observations)
        )
