"""Volumes of a model's pod: where weights come from, where they are kept, and what may be written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec import CacheType
from vllm_operator.planning.source import MODEL_MOUNT_PATH, parse_address
from vllm_operator.render import last_words

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMDeploymentSpec

CACHE_PATH: Final = "/cache"
SHARED_MEMORY_PER_GPU_GIB: Final = 1
"""NCCL and vLLM's message queue fail with the container runtime's 64 MiB; a server of two layers already wants 256 MiB.
One GiB for each GPU and one for the API server is what vLLM's own manifests come to at eight GPUs. It is a limit, not a
reservation: only what is written counts as the pod's memory."""
TMP_SIZE: Final = "8Gi"
"""For compilers' scratch files; what lasts goes to the cache."""


@dataclass(frozen=True, slots=True)
class Volumes:
    """Volumes and their mounts in the engine's container."""

    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, path: str, source: dict[str, Any], *, read_only: bool = False) -> None:
        """Add a volume and its mount."""
        self.volumes.append({"name": name, **source})
        self.mounts.append({"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})})


def pod_volumes(spec: VLLMDeploymentSpec, *, name: str, gpus: int) -> Volumes:
    """Return the volumes of a pod; everything else of its root file system is read-only."""
    found = Volumes()
    found.add("tmp", "/tmp", {"emptyDir": {"sizeLimit": TMP_SIZE}})
    shared_gib = SHARED_MEMORY_PER_GPU_GIB * (gpus + 1)
    found.add("shm", "/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": f"{shared_gib}Gi"}})
    found.add("cache", CACHE_PATH, _cache(spec, name))
    found.add("engine-config", last_words.MOUNT_PATH, last_words.logging_volume(), read_only=True)
    source = _model_source(spec)
    if source is not None:
        found.add("model", MODEL_MOUNT_PATH, source, read_only=True)
    return found


def model_uris(spec: VLLMDeploymentSpec) -> tuple[str, ...]:
    """Return everything that the engine loads: the model, its draft model, its adapters."""
    engine = spec.engine
    draft = engine.speculative.model_uri if engine.speculative is not None else None
    adapters = engine.lora.adapters if engine.lora is not None else ()
    return (spec.model.uri, *([draft] if draft is not None else []), *(adapter.uri for adapter in adapters))


def cache_claim_name(spec: VLLMDeploymentSpec, name: str) -> str | None:
    """Return the claim that keeps downloaded weights, None when they live in the pod or on the node."""
    if spec.cache.type is not CacheType.PERSISTENT_VOLUME_CLAIM:
        return None
    return spec.cache.claim_name or f"{name}-cache"


def _cache(spec: VLLMDeploymentSpec, name: str) -> dict[str, Any]:
    cache = spec.cache
    if cache.type is CacheType.HOST_PATH:
        return {"hostPath": {"path": cache.host_path, "type": "DirectoryOrCreate"}}
    claim = cache_claim_name(spec, name)
    if claim is not None:
        return {"persistentVolumeClaim": {"claimName": claim}}
    return {"emptyDir": {"sizeLimit": cache.size} if cache.size else {}}


def _model_source(spec: VLLMDeploymentSpec) -> dict[str, Any] | None:
    """Return the one volume that holds models; the API's rules leave no second (api/rules.py)."""
    for uri in model_uris(spec):
        address = parse_address(uri)
        if address.scheme == "pvc":
            return {"persistentVolumeClaim": {"claimName": address.authority, "readOnly": True}}
        if address.scheme == "oci":
            return {"image": {"reference": address.authority, "pullPolicy": "IfNotPresent"}}
    return None
