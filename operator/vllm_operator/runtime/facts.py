"""The facts of each deployment's model: loaded in the background, never awaited by a reconcile."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.models.errors import ModelError, SourceOffline
from vllm_operator.runtime.kube import CONFIG_MAPS, SECRETS, ApiError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.api.references import ConfigMapKeyRef, SecretKeyRef
    from vllm_operator.api.spec import ModelSpec
    from vllm_operator.api.v1alpha1 import VLLMDeployment
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.models.source import FactsSource
    from vllm_operator.runtime.kube import Kube

_LOGGER = logging.getLogger(__name__)

LOAD_TIMEOUT_SECONDS: Final = 120.0
RETRY_SECONDS: Final = 30.0
MOST_PREFETCHES: Final = 16
"""Loads that admission may have under way: requests must not be a means to flood the hub."""


class ReferenceMissing(ModelError):
    """A Secret or ConfigMap that the spec names, or its key, does not exist."""


@dataclass(slots=True)
class _Entry:
    model: ModelSpec
    since: float
    outcome: ModelFacts | ModelError | None = None
    task: asyncio.Task[None] | None = None
    due: float = 0.0


class FactsBook:
    """What is known of each deployment's model. `changed` is called with a deployment's key when a load has ended."""

    def __init__(
        self, kube: Kube, source: FactsSource, *, changed: Callable[[str], None], reads_tokens: bool = True
    ) -> None:
        """Without `reads_tokens` no Secret is asked for: there is no hub to show a token to."""
        self._kube = kube
        self._source = source
        self._reads_tokens = reads_tokens
        self._changed = changed
        self._entries: dict[str, _Entry] = {}
        self._prefetching: set[asyncio.Task[None]] = set()
        self._closed = False

    def entries(self) -> int:
        """Return how much is kept, for whoever watches that it does not grow."""
        return len(self._entries) + len(self._prefetching)

    def outcome(self, key: str, deployment: VLLMDeployment) -> ModelFacts | ModelError | None:
        """Return facts, the error that stands in their way, or None while they are loading; starts the loading."""
        model = deployment.spec.model
        entry = self._entries.get(key)
        if entry is None or entry.model != model:
            self.forget(key)
            entry = self._entries[key] = _Entry(model=model, since=asyncio.get_running_loop().time())
        loop = asyncio.get_running_loop()
        settled = entry.outcome is not None and not isinstance(entry.outcome, ModelError)
        if entry.task is None and not settled and loop.time() >= entry.due and not self._closed:
            namespace = deployment.metadata.namespace
            entry.task = loop.create_task(self._load(key, entry, namespace), name=f"facts {key}")
        return entry.outcome

    def known(self, key: str, model: ModelSpec) -> ModelFacts | None:
        """Return the facts if they are at hand, from memory alone: for admission."""
        entry = self._entries.get(key)
        if entry is not None and entry.model == model and not isinstance(entry.outcome, ModelError):
            return entry.outcome
        try:
            return self._source.peek(model)
        except ModelError:
            return None

    def seconds_to_retry(self, key: str) -> float | None:
        """Return when a failed load is worth another try; None while loading, or when the facts are there."""
        entry = self._entries.get(key)
        if entry is None or entry.task is not None or not isinstance(entry.outcome, ModelError | None):
            return None
        return max(0.0, entry.due - asyncio.get_running_loop().time())

    def seconds_loading(self, key: str) -> float:
        """Return for how long the facts have been asked for."""
        entry = self._entries.get(key)
        return 0.0 if entry is None else asyncio.get_running_loop().time() - entry.since

    def prefetch(self, model: ModelSpec) -> None:
        """Load the facts of a public model that somebody is about to use."""
        if (
            self._closed
            or model.config_ref is not None
            or model.token_secret_ref is not None
            or len(self._prefetching) >= MOST_PREFETCHES
        ):
            return
        task = asyncio.get_running_loop().create_task(self._prefetch(model), name=f"facts {model.uri}")
        self._prefetching.add(task)
        task.add_done_callback(self._prefetching.discard)

    async def _prefetch(self, model: ModelSpec) -> None:
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_SECONDS):
                await self._source.load(model)
        except (ModelError, TimeoutError) as error:
            _LOGGER.debug("model facts could not be loaded ahead", extra={"reason": str(error)})

    def forget(self, key: str) -> None:
        """Drop what is known for a deployment that is gone or names another model."""
        entry = self._entries.pop(key, None)
        if entry is not None and entry.task is not None:
            entry.task.cancel()

    async def close(self) -> None:
        """Cancel everything that is loading, and load nothing more."""
        self._closed = True
        tasks = [*self._prefetching, *(entry.task for entry in self._entries.values() if entry.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, key: str, entry: _Entry, namespace: str) -> None:
        before = entry.outcome
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_SECONDS):
                entry.outcome = await self._ask(entry.model, namespace)
        except ModelError as error:
            # Facts that were known stay in force while their source is away.
            away = isinstance(error, SourceOffline) and before is not None and not isinstance(before, ModelError)
            entry.outcome = before if away else error
        except (ApiError, Unreachable, TimeoutError) as error:
            _LOGGER.warning("model facts could not be loaded", extra={"key": key, "reason": repr(error)})
        finally:
            entry.due = asyncio.get_running_loop().time() + RETRY_SECONDS
            entry.task = None
        self._changed(key)

    async def _ask(self, model: ModelSpec, namespace: str) -> ModelFacts:
        token = None
        if model.token_secret_ref is not None and self._reads_tokens:
            token = await self._token(model.token_secret_ref, namespace)
        data = None
        if model.config_ref is not None:
            data = await self._config_map(model.config_ref, namespace)
        return await self._source.load(model, token, config_map=data)

    async def _token(self, reference: SecretKeyRef, namespace: str) -> str:
        try:
            secret = await self._kube.get(SECRETS, namespace, reference.name)
        except ApiError as error:
            if error.status != 404:
                raise
            raise ReferenceMissing(
                f"the Secret {reference.name!r} of spec.model.tokenSecretRef does not exist in namespace {namespace}; "
                "create it with the hub token"
            ) from None
        try:
            return base64.b64decode((secret.get("data") or {})[reference.key]).decode().strip()
        except (KeyError, binascii.Error, UnicodeDecodeError):
            raise ReferenceMissing(
                f"the Secret {reference.name!r} of spec.model.tokenSecretRef has no usable key {reference.key!r}"
            ) from None

    async def _config_map(self, reference: ConfigMapKeyRef, namespace: str) -> dict[str, str]:
        try:
            found = await self._kube.get(CONFIG_MAPS, namespace, reference.name)
        except ApiError as error:
            if error.status != 404:
                raise
            raise ReferenceMissing(
                f"the ConfigMap {reference.name!r} of spec.model.configRef does not exist in namespace {namespace}; "
                f"create it with the model's config.json under the key {reference.key!r}"
            ) from None
        data: dict[str, str] = found.get("data") or {}
        if reference.key not in data:
            raise ReferenceMissing(
                f"the ConfigMap {reference.name!r} of spec.model.configRef has no key {reference.key!r}; "
                f"its keys are {', '.join(sorted(data)) or 'none'}"
            )
        return data
