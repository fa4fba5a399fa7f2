"""The model hub as the settings allow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.errors import SourceOffline
from vllm_operator.models.source import HubSource

if TYPE_CHECKING:
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.models.source.facts_source import Hub
    from vllm_operator.settings import Settings


class NoHub:
    """Stands in for the hub where the operator may not use it."""

    async def load(self, uri: str, *, revision: str | None = None, token: str | None = None) -> ModelFacts:
        """Refuse: only the catalogue, ConfigMaps and parameter counts remain.

        Raises:
            SourceOffline: always.
        """
        raise SourceOffline(
            f"{uri}: the operator may not read the hub (models.hubEnabled is false); give the model's config in "
            "spec.model.configRef, or spec.model.parametersBillions"
        )


def hub_of(settings: Settings) -> Hub:
    """Return the hub that the settings name."""
    return HubSource(endpoint=settings.hub_endpoint) if settings.hub_enabled else NoHub()
