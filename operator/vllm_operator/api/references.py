"""References to objects in the same namespace."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from vllm_operator.api.base import Name, SpecModel


class SecretKeyRef(SpecModel):
    """A key of a Secret in the same namespace."""

    name: Name
    """Name of the Secret."""
    key: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = "token"
    """Key in the Secret."""


class ConfigMapKeyRef(SpecModel):
    """A key of a ConfigMap in the same namespace."""

    name: Name
    """Name of the ConfigMap."""
    key: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = "config.json"
    """Key that holds the model's config.json."""
