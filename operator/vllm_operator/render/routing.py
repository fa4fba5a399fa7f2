"""How a gateway reaches the pods: an HTTPRoute, and an InferencePool for gateways that choose the replica."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from vllm_operator.api.exposure import GatewaySpec, InferencePoolSpec

INFERENCE_GROUP: Final = "inference.networking.k8s.io"
GATEWAY: Final = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}


def route_values(gateway: GatewaySpec, *, name: str, service_port: int, to_pool: bool) -> dict[str, Any]:
    """Return what the template of an HTTPRoute needs; it leads to the InferencePool or to the Service of that name.

    Defaults are stated: in a list that is one value they are ours as well, and are restored only when they are stated.
    """
    service = {"group": "", "kind": "Service", "name": name, "port": service_port, "weight": 1}
    pool = {"group": INFERENCE_GROUP, "kind": "InferencePool", "name": name, "weight": 1}
    seconds = gateway.request_timeout_seconds
    return {
        "parents": [
            {**GATEWAY, **parent.model_dump(by_alias=True, exclude_none=True, mode="json")}
            for parent in gateway.parent_refs
        ],
        "hostnames": list(gateway.hostnames),
        "path_prefix": gateway.path_prefix or "/",
        "request_timeout": None if seconds is None else f"{seconds}s",
        "backend": pool if to_pool else service,
    }


def pool_values(pool: InferencePoolSpec, *, target_port: int) -> dict[str, Any]:
    """Return what the template of an InferencePool needs."""
    return {
        "target_port": target_port,
        "picker_name": pool.endpoint_picker.name,
        "picker_port": pool.endpoint_picker.port,
        "failure_mode": pool.failure_mode.value,
    }
