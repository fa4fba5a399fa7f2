"""Observations: what engines reported of their KV cache, as they are kept in one ConfigMap and exchanged as a file.

They are read back with mistrust: whoever may edit the ConfigMap or the file may have written anything.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, StringConstraints, ValidationError, model_validator

from vllm_operator.api.base import StatusModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DATA_KEY: Final = "observations.json"
"""Key of the ConfigMap's data."""
FORMAT: Final = 1
MOST_OBSERVATIONS: Final = 500
LARGEST_DOCUMENT_BYTES: Final = 900_000
"""The API server takes ConfigMaps of 1 MiB, their metadata included."""

_MOST_BYTES: Final = 2**50
_Figure = Annotated[int, Field(ge=1, le=_MOST_BYTES)]
_Size = Annotated[int, Field(ge=1, le=65_536)]
_Text = Annotated[str, StringConstraints(max_length=512)]
_Time = Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z$")]


class ObservationKey(StatusModel):
    """All that decides how much memory vLLM leaves for the KV cache, and nothing that could be a secret."""

    model: _Text
    """Address of the model, without any user information in it."""
    revision: _Text | None = None
    """Commit of the model."""
    engine_version: Annotated[str, StringConstraints(max_length=32)]
    """vLLM release."""
    image: _Text
    """Engine image."""
    resource_name: _Text
    """Extended resource that a pod requests."""
    gpu_product: _Text | None = None
    """GPU product."""
    gpu_memory_bytes: _Figure
    """Memory of one such GPU."""
    tensor_parallel_size: _Size = 1
    """GPUs that share each layer."""
    pipeline_parallel_size: _Size = 1
    """Groups of layers that run one after the other."""
    data_parallel_size: _Size = 1
    """Copies of the model in one replica."""
    settings: Annotated[tuple[_Text, ...], Field(max_length=128)] = ()
    """Flags and variables that memory depends on, as `name=value`, sorted; long values are digests."""


class Observation(StatusModel):
    """What engines with one key reported, beside what had been predicted for them."""

    key: ObservationKey
    """What was started."""
    kv_cache_tokens: _Figure
    """Least tokens that one engine reported."""
    most_kv_cache_tokens: _Figure
    """Most tokens that one engine reported."""
    kv_cache_bytes: _Figure
    """Memory of the least, on one GPU."""
    predicted_kv_cache_tokens: _Figure
    """What had been predicted, with nothing observed in it."""
    predicted_kv_cache_bytes: _Figure
    """Likewise on one GPU."""
    predicted_by: Annotated[str, StringConstraints(max_length=64)]
    """Version of the operator that predicted."""
    observed_at: _Time
    """When it was seen last to differ from what was known."""
    source: _Text = ""
    """VLLMDeployment that it was seen on."""

    @model_validator(mode="after")
    def _can_be_true(self) -> Observation:
        if self.most_kv_cache_tokens < self.kv_cache_tokens:
            raise ValueError("mostKvCacheTokens is below kvCacheTokens")
        largest = max(self.kv_cache_bytes, self.predicted_kv_cache_bytes)
        if largest > self.key.gpu_memory_bytes:
            raise ValueError(f"a KV cache of {largest} bytes on a GPU of {self.key.gpu_memory_bytes}")
        return self


def write_observations(observations: Iterable[Observation]) -> str:
    """Return the document, newest first: as many as are kept, and as fit into a ConfigMap."""
    newest = sorted(observations, key=_age, reverse=True)[:MOST_OBSERVATIONS]
    while True:
        text = _document(newest)
        if len(text.encode()) <= LARGEST_DOCUMENT_BYTES:
            return text
        newest = newest[: len(newest) * 9 // 10]


def _age(observation: Observation) -> tuple[str, str]:
    return observation.observed_at, observation.key.model_dump_json()


def _document(observations: list[Observation]) -> str:
    entries = [entry.model_dump(mode="json", by_alias=True, exclude_none=True) for entry in observations]
    return json.dumps({"format": FORMAT, "observations": entries}, separators=(",", ":"), sort_keys=True)


def read_observations(text: str) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """Return the observations of a document, and what is wrong with those that are left out.

    Raises:
        ValueError: it is not such a document.
    """
    if len(text) > 2 * LARGEST_DOCUMENT_BYTES:
        raise ValueError(f"{len(text)} characters are more than {MOST_OBSERVATIONS} observations take")
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return _of_document(document)


def _of_document(document: Any) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    if not isinstance(document, dict) or not isinstance(document.get("observations"), list):
        raise ValueError('it has no list "observations"')
    if document.get("format") != FORMAT:
        raise ValueError(f"its format is {str(document.get('format'))[:20]!r}; {FORMAT} is known here")
    found: list[Observation] = []
    problems: list[str] = []
    entries = document["observations"]
    for number, entry in enumerate(entries[:MOST_OBSERVATIONS], 1):
        try:
            found.append(Observation.model_validate(entry))
        except ValidationError as error:
            problems.append(f"observation {number} is ignored: {'; '.join(_reasons(error))}")
    if len(entries) > MOST_OBSERVATIONS:
        problems.append(f"{len(entries) - MOST_OBSERVATIONS} observations beyond {MOST_OBSERVATIONS} are ignored")
    return tuple(found), tuple(problems)


def _reasons(error: ValidationError) -> Iterator[str]:
    for found in error.errors(include_url=False, include_input=False)[:3]:
        path = ".".join(str(part) for part in found["loc"])
        yield f"{path}: {found['msg']}" if path else found["msg"]
