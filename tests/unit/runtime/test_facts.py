"""What is read in the cluster for a model's facts."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

import pytest
from tests.unit.runtime.fake_kube import FakeKube
from tests.unit.runtime.test_reconciler import KEY, resource

from vllm_operator.api.v1alpha1 import parse_deployment
from vllm_operator.models.errors import ModelError
from vllm_operator.models.source import FactsSource
from vllm_operator.runtime.facts import FactsBook
from vllm_operator.runtime.hub import NoHub
from vllm_operator.runtime.kube import SECRETS

if TYPE_CHECKING:
    from vllm_operator.models.facts import ModelFacts

TOKEN = "hf_made_up"


class Hub(NoHub):
    """A hub that notes the tokens that it is shown."""

    def __init__(self) -> None:
        self.tokens: list[str | None] = []

    async def load(self, uri: str, *, revision: str | None = None, token: str | None = None) -> ModelFacts:
        self.tokens.append(token)
        return await super().load(uri, revision=revision, token=token)


@pytest.mark.parametrize(("reads_tokens", "shown"), [(True, [TOKEN]), (False, [None])])
async def test_a_token_is_read_only_where_there_is_a_hub_to_show_it_to(
    reads_tokens: bool, shown: list[str | None]
) -> None:
    kube, hub, changed = FakeKube(), Hub(), asyncio.Event()
    secret = {"metadata": {"name": "hf", "namespace": "team"}, "data": {"token": base64.b64encode(TOKEN.encode())}}
    kube.put(SECRETS, secret)
    book = FactsBook(kube, FactsSource(hub), changed=lambda key: changed.set(), reads_tokens=reads_tokens)
    deployment = parse_deployment(resource(model={"uri": "org/unheard-of", "tokenSecretRef": {"name": "hf"}}))

    assert book.outcome(KEY, deployment) is None
    async with asyncio.timeout(5):
        await changed.wait()

    assert isinstance(book.outcome(KEY, deployment), ModelError), "this hub has no model"
    assert hub.tokens == shown
    await book.close()


async def test_nothing_is_loaded_for_an_operator_that_is_stopping() -> None:
    hub = Hub()
    book = FactsBook(FakeKube(), FactsSource(hub), changed=lambda key: None)
    deployment = parse_deployment(resource(model={"uri": "org/unheard-of"}))
    await book.close()
    before = asyncio.all_tasks()

    assert book.outcome(KEY, deployment) is None
    book.prefetch(deployment.spec.model)

    assert asyncio.all_tasks() == before, "Kopf would wait for it"
