"""Where facts come from: the Hub, a directory, a ConfigMap, the bundled catalogue, or a bare parameter count.

This package is the shell around the pure `models`: the only place with a network, files and threads.
"""

from __future__ import annotations

from vllm_operator.models.errors import ModelGated, ModelNotFound, ModelSourceError, ModelUnreadable, SourceOffline
from vllm_operator.models.source.cache import FactsCache
from vllm_operator.models.source.directory import load_directory
from vllm_operator.models.source.facts_source import FactsSource
from vllm_operator.models.source.given import facts_of_config_map
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
