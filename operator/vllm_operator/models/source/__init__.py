"""Where facts come from: the Hub, a directory, a ConfigMap, the bundled catalogue, or a bare parameter count.

This package is the shell around the pure `models`: the only place with a network, files and threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.errors import ModelGated, ModelNotFound, ModelSourceError, ModelUnreadable, SourceOffline
from vllm_operator.models.source.cache import FactsCache
from vllm_operator.models.source.directory import load_directory
from vllm_operator.models.source.facts_source import FactsSource
from vllm_operator.models.source.given import facts_of_config_map

if TYPE_CHECKING:
    from vllm_operator.models.source.hub import HubSource

__all__ = [
    "FactsCache",
    "FactsSource",
    "HubSource",
    "ModelGated",
    "ModelNotFound",
    "ModelSourceError",
    "ModelUnreadable",
    "SourceOffline",
    "facts_of_config_map",
    "load_directory",
]


def __getattr__(name: str) -> object:
    """`HubSource` when it is first asked for: its client costs a third of the start of a command that needs no Hub."""
    if name == "HubSource":
        from vllm_operator.models.source.hub import HubSource

        return HubSource
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
