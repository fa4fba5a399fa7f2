"""Sharding of a checkpoint's own tensors by their names: for families whose layers are not known.

The names of projections are shared by nearly every model, and vLLM's parallel layers divide them in the same way:
column-parallel weights by their outputs, row-parallel weights by their inputs, the rest is whole on every rank.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vllm_operator.models.weights.ranks import VOCABULARY_PADDING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.models.facts import TensorFacts
    from vllm_operator.models.weights.ranks import Ranks

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|blk)\.(\d+)\.")
_EXPERT = re.compile(r"\.experts?\.|_exps\.")
_VOCABULARY = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|tok_embeddings|lm_head|embed_out|token_embd|output)\.weight$"
)
_FIRST = re.compile(r"embed|wte|wpe|vision|visual|audio|tower|multi_modal|projector|mlp1\.|token_embd")
_DIVIDED = re.compile(
    r"\.(?:q|k|v|o|g|gate|up|down|gate_up|qkv|out|in|q_b|kv_b|b)_proj\."
    r"|\.(?:query_key_value|c_attn|c_fc|c_proj|fc1|fc2|fc_in|fc_out|w1|w2|w3|wqkv|wo|W_pack|Wqkv|dense_h_to_4h"
    r"|dense_4h_to_h|attn_q|attn_k|attn_v|attn_output|ffn_gate|ffn_up|ffn_down|dense)\."
)
_DRAFT = re.compile(r"(?:^|\.)(?:mtp|eagle|medusa)\.")


def tensor_bytes_per_stage(tensors: Iterable[TensorFacts], ranks: Ranks, *, num_layers: int) -> tuple[int, ...]:
    """Bytes on one rank of each pipeline stage. Draft layers, beyond `num_layers`, are not loaded."""
    stage_of_layer = ranks.stages.of_layers(num_layers)
    stages = [0] * ranks.stages.count
    for tensor in tensors:
        if _DRAFT.search(tensor.name):
            continue
        share = _share(tensor, ranks)
        layer = _LAYER.search(tensor.name)
        if layer is None or _FIRST.search(tensor.name):
            stages[0 if _FIRST.search(tensor.name) else -1] += share
        elif int(layer.group(1)) < num_layers:
            stages[stage_of_layer[int(layer.group(1))]] += share
    return tuple(stages)


def _share(tensor: TensorFacts, ranks: Ranks) -> int:
    if _EXPERT.search(tensor.name):
        return -(-tensor.stored_bytes // ranks.experts)
    if _VOCABULARY.search(tensor.name) and tensor.shape:
        rows = tensor.shape[0]
        padded = -(-rows // VOCABULARY_PADDING) * VOCABULARY_PADDING
        return -(-tensor.stored_bytes * padded // max(1, rows)) // ranks.tensor
    if _DIVIDED.search(tensor.name) and len(tensor.shape) > 1:
        return -(-tensor.stored_bytes // ranks.tensor)
    return tensor.stored_bytes
