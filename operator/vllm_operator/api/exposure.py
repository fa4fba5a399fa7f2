"""Who reaches the pods and how: `spec.service`, `spec.gateway`, `spec.monitoring`, `spec.networkPolicy`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from vllm_operator.api.base import LabelKey, LabelValue, Name, SpecModel

Port = Annotated[int, Field(ge=1, le=65_535)]
Hostname = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=253,
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]


class ServiceType(StrEnum):
    """Type of the Service in front of the pods."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class Toggle(StrEnum):
    """Whether an optional object is made: `Auto` makes it when the cluster has its API."""

    AUTO = "Auto"
    ON = "On"
    OFF = "Off"


class ServiceSpec(SpecModel):
    """The Service in front of the pods."""

    type: ServiceType = ServiceType.CLUSTER_IP
    """Type of the Service."""
    port: Port = 8000
    """Port of the Service."""


class GatewayRef(SpecModel):
    """A Gateway that the route is attached to."""

    name: Name
    """Name of the Gateway."""
    namespace: Name | None = None
    """Its namespace. Unset: that of this resource."""
    section_name: Name | None = None
    """One of its listeners. Unset: all that admit the route."""


class FailureMode(StrEnum):
    """What happens to requests while the endpoint picker does not answer."""

    FAIL_OPEN = "FailOpen"
    FAIL_CLOSE = "FailClose"


class EndpointPicker(SpecModel):
    """The Service of an endpoint picker, which chooses the replica for each request."""

    name: Name
    """Name of the Service, in the same namespace."""
    port: Port = 9002
    """Port on which it answers the gateway."""


class InferencePoolSpec(SpecModel):
    """An InferencePool of this model's pods, for gateways that route by load and cache instead of in turn."""

    endpoint_picker: EndpointPicker
    """The endpoint picker; it is installed apart from this operator."""
    failure_mode: FailureMode = FailureMode.FAIL_CLOSE
    """`FailOpen` sends requests to any replica while the picker does not answer; `FailClose` refuses them."""


class GatewaySpec(SpecModel):
    """How requests from outside reach the model, through the Gateway API."""

    parent_refs: Annotated[tuple[GatewayRef, ...], Field(max_length=16)] = ()
    """Gateways that an HTTPRoute is attached to. Empty: no route is made, only the pool."""
    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=16)] = ()
    """Host names of the route. Empty: those of the Gateway."""
    path_prefix: (
        Annotated[str, StringConstraints(min_length=2, max_length=256, pattern=r"^(/[A-Za-z0-9._~-]+)+$")] | None
    ) = None
    """Path before vLLM's own, such as `/llama` for `/llama/v1/models`; the gateway takes it off. Unset: none."""
    request_timeout_seconds: Annotated[int, Field(ge=0, le=86_400)] | None = None
    """Longest time for one answer, streamed to its end; 0: no limit. Unset: the gateway's default, which may cut it."""
    inference_pool: InferencePoolSpec | None = None
    """Makes an InferencePool, which the route then leads to instead of the Service."""


class MonitoringSpec(SpecModel):
    """Metrics of the model's pods."""

    pod_monitor: Toggle = Toggle.AUTO
    """Whether a PodMonitor is made."""
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(default_factory=dict)
    """Labels of the PodMonitor, by which a Prometheus selects what it scrapes, such as `release`."""


class NetworkPolicySpec(SpecModel):
    """Who may connect to the pods. Without it nothing is restricted."""

    allowed_namespaces: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(default_factory=dict)
    """Labels of further namespaces whose pods may connect, such as a gateway's. Pods of the same one always may."""
