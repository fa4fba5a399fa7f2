"""The API `vllm-operator.io/v1alpha1`: what users write and read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import MODEL_URI_PATTERN, QUANTITY_PATTERN
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


_WORDS: Final = {
    "missing": "required",
    "extra_forbidden": "unknown field",
    "int_type": "must be a whole number, without quotes",
    "float_type": "must be a number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "string_type": "must be text; quote it if YAML takes it for something else",
}
"""For kinds of pydantic's findings, where it does not speak as the API does."""
_FORMS: Final = {
    QUANTITY_PATTERN: "must be a Kubernetes quantity, such as 40Gi or 500m",
    MODEL_URI_PATTERN: "must be a hub id (organization/name), or pvc://claim/path, s3://bucket/path or oci://image",
}


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


def parse_deployment(obj: Mapping[str, Any], *, from_file: bool = False) -> VLLMDeployment:
    """Return the typed form of a VLLMDeployment object.

    A status that cannot be read (written by another version) counts as empty: it is ours to write anew. `from_file`:
    no API server has seen it, so what that refuses by its type, such as a number in quotes, is refused here.

    Raises:
        SpecError: the object is of another kind, or fields are missing, unknown, mistyped or contradictory.
    """
    wanted = {key: obj[key] for key in ("apiVersion", "kind", "metadata", "spec") if obj.get(key) is not None}
    unknown = [(str(key)[:64], "unknown field") for key in obj if key not in {*wanted, "status", "metadata", "spec"}]
    if unknown:
        raise SpecError(unknown)
    try:
        deployment = _typed_strictly(wanted) if from_file else VLLMDeployment.model_validate({**wanted, "status": {}})
    except ValidationError as error:
        raise SpecError(_problems(error)) from None
    contradictions = (*check_name(deployment.metadata.name), *check_spec(deployment.spec))
    if contradictions:
        raise SpecError(contradictions)
    return deployment.model_copy(update={"status": _readable_status(obj.get("status"))})


def _typed_strictly(wanted: Mapping[str, Any]) -> VLLMDeployment:
    """Take an object as kubectl sends it: JSON, in which every key is text, and so is what YAML takes for a date."""
    if not (wanted.get("metadata") or {}).get("name"):
        raise SpecError([("metadata.name", "required")])
    text = json.dumps({**wanted, "status": {}}, default=str)
    return VLLMDeployment.model_validate_json(text, strict=True)


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
        pattern = problem.get("ctx", {}).get("pattern", "")
        message = _WORDS.get(problem["type"]) or _FORMS.get(pattern) or problem["msg"]
        found.append((path, message[0].lower() + message[1:]))
    return found
