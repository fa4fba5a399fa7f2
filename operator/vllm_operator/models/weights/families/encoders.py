"""Encoder-only models (BERT and its relatives) and encoder-decoders (Whisper).

Sources, vLLM 0.33: `models/{bert,roberta,whisper}.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.weights.families.decoder import feed_forward, hidden_size, vocabulary_size
from vllm_operator.models.weights.fields import integer, items
from vllm_operator.models.weights.modules import (
    Blueprint,
    Extent,
    Layer,
    Linear,
    Module,
    Sharding,
    Tensor,
    Vocabulary,
    divided,
    whole,
)

if TYPE_CHECKING:
    from vllm_operator.models.weights.fields import Config

_LAYER = "encoder.layer.{layer}."


def bert(config: Config) -> Blueprint:
    """BERT, RoBERTa and XLM-RoBERTa: every projection has a bias, norms follow."""
    hidden = hidden_size(config)
    heads = integer(config, "num_attention_heads", default=1)
    inner = integer(config, "intermediate_size", default=4 * hidden)
    layer = (
        attention_with_biases(_LAYER + "attention", hidden=hidden, heads=heads)
        + feed_forward(_LAYER + "mlp", hidden=hidden, intermediate=inner, gated=False, bias=True)
        + (Tensor(name=_LAYER + "norms", extents=(whole(hidden),), count=4),)
    )
    positions, types = integer(config, "max_position_embeddings"), integer(config, "type_vocab_size", default=2)
    first: list[Module] = [
        Vocabulary(name="embeddings.word_embeddings", rows=vocabulary_size(config), columns=hidden),
        Vocabulary(name="embeddings.position_embeddings", rows=positions, columns=hidden),
        Vocabulary(name="embeddings.token_type_embeddings", rows=types, columns=hidden),
        Tensor(name="embeddings.norm", extents=(whole(hidden),), count=2),
    ]
    architecture = next((name for name in items(config, "architectures") if isinstance(name, str)), "")
    last: list[Module] = []
    if architecture.endswith("ForSequenceClassification"):
        labels = max(1, len(config.get("id2label") or ()) or integer(config, "num_labels", default=1))
        last.append(Linear(name="classifier", inputs=whole(hidden), outputs=(whole(hidden + labels),), bias=True))
    count = min(integer(config, "num_hidden_layers"), 4096)
    return Blueprint(first=tuple(first), layers=(layer,) * count, last=tuple(last))


def modern_bert(config: Config) -> Blueprint:
    """ModernBERT: gated layers without biases; the first layer has no norm before its attention."""
    hidden = hidden_size(config)
    heads = integer(config, "num_attention_heads", default=1)
    inner = integer(config, "intermediate_size", default=4 * hidden)
    one = divided(heads, hidden // max(1, heads))
    mixer: Layer = (
        Linear(name=_LAYER + "attn.Wqkv", inputs=whole(hidden), outputs=(one, one, one)),
        Linear(name=_LAYER + "attn.Wo", inputs=one, outputs=(whole(hidden),)),
        *feed_forward(_LAYER + "mlp", hidden=hidden, intermediate=inner),
    )
    norm = Tensor(name=_LAYER + "norm", extents=(whole(hidden),))
    count = min(integer(config, "num_hidden_layers"), 4096)
    embedding = Vocabulary(name="embeddings.tok_embeddings", rows=vocabulary_size(config), columns=hidden)
    layers = ((*mixer, norm),) + ((*mixer, norm, norm),) * max(0, count - 1)
    return Blueprint(first=(embedding, norm), layers=layers[:count], last=(norm,))


def attention_with_biases(name: str, *, hidden: int, heads: int, key_bias: bool = True) -> Layer:
    """Self-attention in which all four projections have a bias."""
    one = divided(heads, hidden // max(1, heads))
    return (
        Linear(
            name=name + ".qkv_proj",
            inputs=whole(hidden),
            outputs=(one, one, one),
            bias=key_bias,
            parts=("q_proj", "k_proj", "v_proj"),
        ),
        Linear(name=name + ".out_proj", inputs=one, outputs=(whole(hidden),), bias=True),
    )


def whisper(config: Config) -> Blueprint:
    """Whisper: a convolutional encoder and a decoder with cross-attention; the head is the embedding."""
    hidden = integer(config, "d_model")
    mels = integer(config, "num_mel_bins", default=80)
    encoder = _block(
        "model.encoder.layers.{layer}.",
        hidden=hidden,
        heads=integer(config, "encoder_attention_heads", default=1),
        inner=integer(config, "encoder_ffn_dim"),
        cross=False,
    )
    decoder = _block(
        "model.decoder.layers.{layer}.",
        hidden=hidden,
        heads=integer(config, "decoder_attention_heads", default=1),
        inner=integer(config, "decoder_ffn_dim"),
        cross=True,
    )
    encoder_layers = min(integer(config, "encoder_layers"), 4096)
    convolutions = 3 * mels * hidden + hidden + 3 * hidden * hidden + hidden
    first: list[Module] = [
        Vocabulary(
            name="model.decoder.embed_tokens",
            rows=vocabulary_size(config),
            columns=hidden,
            sharding=Sharding.WHOLE,
        ),
        _table(convolutions),
        _table(integer(config, "max_source_positions", default=1500) * hidden + 2 * hidden),
        _table(integer(config, "max_target_positions", default=448) * hidden + 2 * hidden),
    ]
    for _ in range(encoder_layers):
        first.extend(encoder)
    count = min(integer(config, "decoder_layers"), 4096)
    return Blueprint(first=tuple(first), layers=(decoder,) * count, tied=True)


def _table(elements: int) -> Tensor:
    return Tensor(name="model.tables", extents=(Extent(elements, 1, Sharding.WHOLE),))


def _block(name: str, *, hidden: int, heads: int, inner: int, cross: bool) -> Layer:
    layer = attention_with_biases(name + "self_attn", hidden=hidden, heads=heads)
    norms = 4
    if cross:
        one = divided(heads, hidden // max(1, heads))
        norms += 2
        layer += (
            Linear(name=name + "encoder_attn.q_proj", inputs=whole(hidden), outputs=(one,), bias=True),
            Linear(name=name + "encoder_attn.kv_proj", inputs=whole(hidden), outputs=(one, one), bias=True),
            Linear(name=name + "encoder_attn.out_proj", inputs=one, outputs=(whole(hidden),), bias=True),
        )
    layer += feed_forward(name + "mlp", hidden=hidden, intermediate=inner, gated=False, bias=True)
    return (*layer, Tensor(name=name + "norms", extents=(whole(hidden),), count=norms))


__all__ = ["attention_with_biases", "bert", "modern_bert", "whisper"]
