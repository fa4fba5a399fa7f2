"""The facts of a deployment's model, from the best place that has them.

Order: what the user gives in `configRef`; the Hub; when the Hub cannot be reached the bundled catalogue; last the bare
`parametersBillions`. A model that the Hub refuses (missing, gated) is refused here too: its pods could not load it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from vllm_operator.models import catalogue
from vllm_operator.models.errors import ModelUnreadable, SourceOffline
from vllm_operator.models.source.cache import FactsCache
from vllm_operator.models.source.given import facts_of_config_map, facts_of_parameter_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.spec import ModelSpec
    from vllm_operator.models.facts import ModelFacts

_OTHER_SCHEMES = ("pvc://", "s3://", "oci://")


class Hub(Protocol):
    """What is needed of a Hub; `HubSource` is it."""

    async def load(self, uri: str, *, revision: str | None = None, token: str | None = None) -> ModelFacts:
        """The facts of a model."""
        ...


class FactsSource:
    """Answers for a `spec.model`, with a cache in front of the Hub."""

    def __init__(self, hub: Hub, *, cache: FactsCache | None = None) -> None:
        self._hub = hub
        self._cache = cache or FactsCache()

    async def load(
        self, model: ModelSpec, token: str | None = None, *, config_map: Mapping[str, str] | None = None
    ) -> ModelFacts:
        """The facts of the model; `config_map` is the data of the ConfigMap that `configRef` names.

        Raises `ModelNotFound`, `ModelGated`, `SourceOffline` or `ModelUnreadable`.
        """
        given = _given(model, config_map)
        if given is not None:
            return given
        try:
            return await self._cache.get(
                model.uri,
                revision=model.revision,
                token=token,
                load=lambda: self._hub.load(model.uri, revision=model.revision, token=token),
            )
        except SourceOffline:
            known = _without_network(model)
            if known is None:
                raise
            return known

    def peek(
        self, model: ModelSpec, token: str | None = None, *, config_map: Mapping[str, str] | None = None
    ) -> ModelFacts | None:
        """What is known at this moment, from memory alone: for admission, which may not wait.

        Raises `ModelUnreadable` when what the user gave cannot be read.
        """
        if model.config_ref is not None and config_map is None:
            return None
        given = _given(model, config_map)
        if given is not None:
            return given
        return self._cache.peek(model.uri, revision=model.revision, token=token) or _without_network(model)


def _given(model: ModelSpec, config_map: Mapping[str, str] | None) -> ModelFacts | None:
    """The facts that need no source: the user's own. None when a source must be asked."""
    if model.config_ref is not None:
        if config_map is None:
            raise ModelUnreadable(
                f"{model.uri}: the ConfigMap {model.config_ref.name!r} of spec.model.configRef does not exist; create "
                "it in the same namespace"
            )
        return facts_of_config_map(config_map, uri=model.uri, key=model.config_ref.key, revision=model.revision)
    if not model.uri.startswith(_OTHER_SCHEMES):
        return None
    if model.parameters_billions is not None:
        return facts_of_parameter_count(model.parameters_billions, uri=model.uri)
    scheme = model.uri.partition("://")[0]
    raise ModelUnreadable(
        f"{model.uri}: the operator does not read {scheme}:// storage; give the model's config in spec.model.configRef"
    )


def _without_network(model: ModelSpec) -> ModelFacts | None:
    known = catalogue.lookup(model.uri)
    if known is not None and catalogue.speaks_of(known, model.revision):
        return known
    if model.parameters_billions is not None:
        return facts_of_parameter_count(model.parameters_billions, uri=model.uri, revision=model.revision)
    return None
