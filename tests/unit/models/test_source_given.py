"""Facts that the user writes into the cluster."""

from __future__ import annotations

import json

import pytest

from vllm_operator.models.errors import ModelUnreadable
from vllm_operator.models.facts import FactsBasis
from vllm_operator.models.source import facts_of_config_map
from vllm_operator.models.source.given import facts_of_parameter_count

CONFIG = json.dumps(
    {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 640,
        "max_position_embeddings": 1024,
    }
)


def test_a_config_map_is_a_model() -> None:
    facts = facts_of_config_map({"config.json": CONFIG}, uri="pvc://models/llama", revision="v1")
    assert facts.num_layers == 2
    assert facts.source is not None
    assert (facts.source.uri, facts.source.revision) == ("pvc://models/llama", "v1")
    assert facts.checkpoint is None


def test_the_key_may_have_any_name() -> None:
    assert facts_of_config_map({"llama.json": CONFIG}, uri="org/model", key="llama.json").vocab_size == 640


def test_what_lies_beside_the_config_is_used() -> None:
    index = {"metadata": {"total_size": 7}, "weight_map": {"lm_head.weight": "a.safetensors"}}
    facts = facts_of_config_map(
        {"config.json": CONFIG, "model.safetensors.index.json": json.dumps(index)}, uri="org/model"
    )
    assert facts.checkpoint is not None
    assert (facts.checkpoint.total_bytes, facts.checkpoint.has_lm_head) == (7, True)


def test_a_size_alone_is_a_checkpoint() -> None:
    facts = facts_of_config_map({"config.json": CONFIG, "checkpointBytes": " 123 "}, uri="org/model")
    assert facts.checkpoint is not None
    assert (facts.checkpoint.total_bytes, facts.checkpoint.basis) == (123, FactsBasis.CHECKPOINT_SIZE)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "it has nothing"),
        ({"Config.json": CONFIG}, r"it has Config\.json"),
        ({"config.json": "{"}, "not valid JSON"),
        ({"config.json": "[]"}, "not an object"),
        ({"config.json": "{}"}, "cannot be planned"),
        ({"config.json": CONFIG, "checkpointBytes": "16Gi"}, "not a number of bytes"),
        ({"config.json": CONFIG, "hf_quant_config.json": "?"}, "hf_quant_config.json is not valid JSON"),
    ],
)
def test_what_is_wrong_is_said_with_where(data: dict[str, str], message: str) -> None:
    with pytest.raises(ModelUnreadable, match=message) as raised:
        facts_of_config_map(data, uri="org/model")
    assert "org/model" in str(raised.value)


def test_a_parameter_count_claims_nothing_but_itself() -> None:
    facts = facts_of_parameter_count(8.03, uri="org/model")
    assert facts.parameters == 8_030_000_000
    assert (facts.architecture, facts.num_layers, facts.caches) == ("", 0, ())
    assert "8.03 billion" in facts.assumptions[0]
