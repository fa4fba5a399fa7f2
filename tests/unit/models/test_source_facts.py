"""Which source answers for a `spec.model`."""

from __future__ import annotations

import json

import pytest
from tests.unit.models.test_source_given import CONFIG

from vllm_operator.api.spec import ModelSpec
from vllm_operator.models.errors import ModelGated, ModelSourceError, ModelUnreadable, SourceOffline
from vllm_operator.models.facts import ModelFacts, ModelSource
from vllm_operator.models.parse import parse_model
from vllm_operator.models.source import FactsSource

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


class StandInHub:
    """A Hub that answers or fails as told."""

    def __init__(self, failure: ModelSourceError | None = None) -> None:
        self.failure = failure
        self.asked: list[tuple[str, str | None, str | None]] = []

    async def load(self, uri: str, *, revision: str | None = None, token: str | None = None) -> ModelFacts:
        self.asked.append((uri, revision, token))
        if self.failure is not None:
            raise self.failure
        return parse_model(json.loads(CONFIG), source=ModelSource(uri=uri, revision="0" * 40))


def model(uri: str, **fields: object) -> ModelSpec:
    return ModelSpec.model_validate({"uri": uri, **fields})


async def test_the_hub_answers_first() -> None:
    hub = StandInHub()
    facts = await FactsSource(hub).load(model("org/model", revision="dev"), "token")
    assert facts.num_layers == 2
    assert hub.asked == [("org/model", "dev", "token")]


async def test_the_users_own_config_wins_and_nobody_is_asked() -> None:
    hub = StandInHub()
    given = model("org/model", configRef={"name": "cm", "key": "config.json"})
    facts = await FactsSource(hub).load(given, config_map={"config.json": CONFIG})
    assert facts.num_layers == 2
    assert hub.asked == []


async def test_a_missing_config_map_is_named() -> None:
    given = model("org/model", configRef={"name": "cm", "key": "config.json"})
    with pytest.raises(ModelUnreadable, match="'cm'"):
        await FactsSource(StandInHub()).load(given)


async def test_without_a_network_the_catalogue_answers() -> None:
    facts = await FactsSource(StandInHub(SourceOffline("off"))).load(model(LLAMA))
    assert facts.num_layers == 32
    assert facts.source is not None
    assert facts.source.revision == "0e9e39f249a16976918f6564b8830bc894c89659"


async def test_the_catalogue_does_not_speak_for_other_revisions() -> None:
    with pytest.raises(SourceOffline):
        await FactsSource(StandInHub(SourceOffline("off"))).load(model(LLAMA, revision="experiment"))


async def test_without_a_network_or_an_entry_a_count_is_the_last_resort() -> None:
    facts = await FactsSource(StandInHub(SourceOffline("off"))).load(model("org/model", parametersBillions=7))
    assert facts.parameters == 7_000_000_000


async def test_a_refusal_of_the_hub_stands() -> None:
    with pytest.raises(ModelGated):
        await FactsSource(StandInHub(ModelGated("gated"))).load(model(LLAMA, parametersBillions=8))


@pytest.mark.parametrize("uri", ["pvc://claim/path", "s3://bucket/path", "oci://registry/image"])
async def test_storage_that_is_not_read_needs_given_facts(uri: str) -> None:
    with pytest.raises(ModelUnreadable, match=r"spec\.model\.configRef"):
        await FactsSource(StandInHub()).load(model(uri))
    assert (await FactsSource(StandInHub()).load(model(uri, parametersBillions=7))).parameters == 7_000_000_000


async def test_admission_knows_the_catalogue_at_once_and_the_hub_after_a_load() -> None:
    source = FactsSource(StandInHub())
    assert source.peek(model("org/model")) is None
    known = source.peek(model(LLAMA))
    assert known is not None
    assert known.num_layers == 32
    await source.load(model("org/model"))
    assert source.peek(model("org/model")) is not None


def test_admission_waits_for_a_config_map_that_was_not_read_yet() -> None:
    given = model("org/model", configRef={"name": "cm", "key": "config.json"})
    assert FactsSource(StandInHub()).peek(given) is None
