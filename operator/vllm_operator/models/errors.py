"""What can go wrong with a model's facts.

ModelError
├── ModelConfigError      the config cannot be read as a model that vLLM runs
└── ModelSourceError      the facts cannot be had
    ├── ModelNotFound     nothing there under that name
    ├── ModelGated        a token is needed, or the one given has no access
    ├── SourceOffline     the source does not answer
    └── ModelUnreadable   something is there, but it is not a model's config or weights
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of everything that is wrong with a model; the message states the fact and the next step."""


class ModelConfigError(ModelError):
    """The config cannot be read; `field` names the part that is missing or wrong."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(f"{field}: {message}")


class ModelSourceError(ModelError):
    """The facts cannot be had from where they should come."""


class ModelNotFound(ModelSourceError):
    """There is no model under that name or path."""


class ModelGated(ModelSourceError):
    """The model needs a token with access to it."""


class SourceOffline(ModelSourceError):
    """The source does not answer; trying again later may help."""


class ModelUnreadable(ModelSourceError):
    """What was found is not a config or a weight file."""
