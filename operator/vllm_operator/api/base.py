"""What all API models share: camelCase on the wire, snake_case in Python, frozen after parsing."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel


class SpecModel(BaseModel):
    """A part of what users write: unknown fields are refused, values never change after parsing."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class StatusModel(BaseModel):
    """A part of what we write: fields of a newer version are ignored when read back."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


Name = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
]
"""Name of a Kubernetes object (RFC 1123 subdomain)."""

ShortText = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Text = Annotated[str, StringConstraints(max_length=4096)]
LabelKey = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=317,
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    ),
]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
Tokens = Annotated[int, Field(ge=1, le=16_777_216)]
"""A number of tokens; 16 Mi is beyond every published model."""
MODEL_URI_PATTERN: Final = (
    r"^((hf://)?[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?"
    r"|(pvc|s3|oci)://[A-Za-z0-9][A-Za-z0-9._:@/+=-]*)$"
)
ModelUri = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=MODEL_URI_PATTERN)]
"""Where a model comes from: a hub id, or `pvc://`, `s3://` or `oci://` and a path."""
QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P|m)?$"
Quantity = Annotated[str, StringConstraints(max_length=32, pattern=QUANTITY_PATTERN)]
"""A Kubernetes quantity that is not negative."""
