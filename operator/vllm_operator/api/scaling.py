"""How many replicas run: `spec.scaling`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from vllm_operator.api.base import Name, Quantity, SpecModel

DecimalText = Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?$")]


class ScalingMetric(SpecModel):
    """What the replicas follow: a metric of the pods, as an adapter of custom.metrics.k8s.io offers it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z_:][A-Za-z0-9_:.-]*$")] = (
        "vllm:num_requests_waiting"
    )
    """Name under which the adapter offers it; adapters may rename vLLM's own, such as `vllm_num_requests_waiting`."""
    average_value: Quantity
    """Value for one replica that the autoscaler aims at, such as `5` waiting requests."""


class KedaScaling(SpecModel):
    """Scaling by KEDA on a Prometheus query, where no adapter offers custom metrics, or down to zero."""

    server_address: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^https?://[^\s]+$")]
    """Address of Prometheus, such as `http://prometheus.monitoring:9090`."""
    query: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
    """PromQL query of what the replicas share. Unset: the requests that run or wait in the pods, as the operator's
    PodMonitor has them scraped."""
    average_value: DecimalText
    """Result of the query for one replica that the autoscaler aims at, such as `16` requests."""
    activation_value: DecimalText | None = None
    """Result above which the first replica is started, where `minReplicas` is 0. Unset: 0."""
    authentication_ref: Name | None = None
    """TriggerAuthentication in the same namespace with the credentials for Prometheus."""


class ScalingSpec(SpecModel):
    """Scaling by an autoscaler instead of a fixed number of replicas."""

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Fewest replicas."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Most replicas."""
    metric: ScalingMetric | None = None
    """Makes a HorizontalPodAutoscaler on this metric. With neither this nor `keda`, the replicas are left to an
    autoscaler of your own."""
    keda: KedaScaling | None = None
    """Makes a ScaledObject for KEDA instead of a HorizontalPodAutoscaler."""
    scale_down_after_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None
    """How long the load must have been low before a replica is removed. Unset: as long as a new one may take to load,
    at most an hour."""
