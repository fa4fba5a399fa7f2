"""The API `vllm-operator.io/v1alpha1`: what users write and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from vllm_operator.api.exposure import ServiceType, Toggle
from vllm_operator.api.rules import check_name, check_spec
from vllm_operator.api.spec import (
    AccessMode,
    Admission,
    AutoAdjust,
    BatchingMode,
    CacheType,
    GpuSharing,
    OverheadModel,
    RolloutStrategy,
    VLLMDeploymentSpec,
)
from vllm_operator.api.status import Condition, FeasibilityReport, MemoryBreakdown, VLLMDeploymentStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "AccessMode",
    "Admission",
    "AutoAdjust",
    "BatchingMode",
    "CacheType",
    "Condition",
    "FeasibilityReport",
    "GpuSharing",
    "MemoryBreakdown",
    "ObjectMeta",
    "OverheadModel",
    "RolloutStrategy",
    "ServiceType",
    "SpecError",
    "Toggle",
    "VLLMDeployment",
    "VLLMDeploymentSpec",
    "VLLMDeploymentStatus",
    "parse_deployment",
]

GROUP: Final = "vllm-operator.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "VLLMDeployment"
PLURAL: Final = "vllmdeployments"


class SpecError(Exception):
    """The object is not a valid VLLMDeployment; `problems` names each field (JSON path) and what is wrong with it."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path}: {message}" for path, message in self.problems))


class ObjectMeta(BaseModel):
    """The part of the metadata that is read; everything else is the API server's."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    name: str = ""
    namespace: str = "default"
    uid: str | None = None
    generation: int = 0
    resource_version: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    deletion_timestamp: str | None = None


class VLLMDeployment(BaseModel):
    """A model to be served by vLLM, judged against the cluster's GPUs before anything is started."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    api_version: Literal["vllm-operator.io/v1alpha1"] = "vllm-operator.io/v1alpha1"
    kind: Literal["VLLMDeployment"] = "VLLMDeployment"
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: VLLMDeploymentSpec
    status: Annotated[VLLMDeploymentStatus, Field(default_factory=VLLMDeploymentStatus)]


def parse_deployment(obj: Mapping[str, Any]) -> VLLMDeployment:
    """Return the typed form of a VLLMDeployment object.

    A status that cannot be read (written by another version) counts as empty: it is ours to write anew.

    Raises:
        SpecError: the object is of another kind, or fields are missing, unknown, mistyped or contradictory.
    """
    wanted = {key: obj[key] for key in ("apiVersion", "kind", "metadata", "spec") if obj.get(key) is not None}
    unknown = [(str(key)[:64], "unknown field") for key in obj if key not in {*wanted, "status", "metadata", "spec"}]
    if unknown:
        raise SpecError(unknown)
    try:
        deployment = VLLMDeployment.model_validate({**wanted, "status": _readable_status(obj.get("status"))})
    except ValidationError as error:
        raise SpecError(_problems(error)) from None
    contradictions = (*check_name(deployment.metadata.name), *check_spec(deployment.spec))
    if contradictions:
        raise SpecError(contradictions)
    return deployment


def _readable_status(status: object) -> VLLMDeploymentStatus:
    try:
        return VLLMDeploymentStatus.model_validate(status or {})
    except ValidationError:
        return VLLMDeploymentStatus()


def _problems(error: ValidationError) -> list[tuple[str, str]]:
    """Put pydantic's findings into the words of the API: path, and what would be right."""
    found = []
    for problem in error.errors(include_url=False, include_input=False):
        path = ""
        for step in problem["loc"]:
            path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
        message = {"missing": "required", "extra_forbidden": "unknown field"}.get(problem["type"], problem["msg"])
        found.append((path, message[0].lower() + message[1:]))
    return found
