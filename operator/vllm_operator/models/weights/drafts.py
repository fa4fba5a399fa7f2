"""Weights that speculative decoding loads beside a model, and what is not known of them.

vLLM reports them with the model's own ("Model loading took"). The draft shares the model's embedding, and its output
head where the vocabulary is the same (vllm/v1/spec_decode/eagle.py `load_model`@0.33.0).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vllm_operator.models.speculation import Drafter, draft_model_of
from vllm_operator.models.weights.fields import integer
from vllm_operator.models.weights.modules import Linear, Vocabulary, divided, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.models.weights.modules import Blueprint, Layer

_HEAD_VOCABULARY: Final = 32_000
"""Output rows of an EAGLE-3 head: the most frequent tokens only (draft_vocab_size of the published heads)."""
_HEAD_FEED_FORWARD: Final = 4
"""Feed-forward of an EAGLE head against the hidden size, where a mixture of experts gives no dense one."""
_BILLIONS: Final = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3})?)b\b", re.IGNORECASE | re.ASCII)
_MOST_BILLIONS: Final = 100.0
_AUXILIARY_STATES: Final = 3
"""Hidden states of the model that an EAGLE-3 head reads (low, middle, high)."""


def draft_layers(drafter: Drafter, facts: ModelFacts, blueprint: Blueprint) -> tuple[Layer, ...]:
    """The modules of the draft on the last stage; nothing for a second model, whose config is not at hand."""
    if drafter is Drafter.OWN_LAYERS:
        count = integer(facts.config, "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", default=1)
        own = (*blueprint.layers[-1], _joined(facts, inputs=2)) if blueprint.layers else (_joined(facts, inputs=2),)
        return (own,) * max(1, min(count, len(blueprint.layers)))
    return (_head(facts),) if drafter is Drafter.HEAD else ()


def second_model_bytes(speculative: Mapping[str, object], element_bytes: int) -> int:
    """Bytes of a second model by the billions of parameters in its name (`Llama-3.2-1B`); one billion without any."""
    sizes: list[str] = _BILLIONS.findall(draft_model_of(speculative) or "")
    billions = min(float(sizes[-1]), _MOST_BILLIONS) if sizes else 1.0
    return int(billions * 1e9) * element_bytes


def _joined(facts: ModelFacts, *, inputs: int) -> Linear:
    """The projection of embedding and hidden states to one hidden state, whole on every rank."""
    return Linear(
        name="draft.fc",
        inputs=whole(inputs * facts.hidden_size),
        outputs=(whole(facts.hidden_size),),
        quantizable=False,
    )


def _head(facts: ModelFacts) -> Layer:
    """One decoder layer that reads embedding and hidden state side by side, and a small output head."""
    hidden, heads, size = facts.hidden_size, facts.num_attention_heads, facts.head_dim
    dense = 0 if facts.num_experts else integer(facts.config, "intermediate_size")
    feed_forward = divided(dense or _HEAD_FEED_FORWARD * hidden)
    kv = divided(facts.num_kv_heads, size)
    return (
        Linear(name="draft.qkv", inputs=whole(2 * hidden), outputs=(divided(heads, size), kv, kv), quantizable=False),
        Linear(name="draft.o", inputs=divided(heads, size), outputs=(whole(hidden),), quantizable=False),
        Linear(name="draft.gate_up", inputs=whole(hidden), outputs=(feed_forward, feed_forward), quantizable=False),
        Linear(name="draft.down", inputs=feed_forward, outputs=(whole(hidden),), quantizable=False),
        _joined(facts, inputs=_AUXILIARY_STATES),
        Vocabulary(name="draft.lm_head", rows=min(_HEAD_VOCABULARY, facts.vocab_size), columns=hidden, head=True),
    )
