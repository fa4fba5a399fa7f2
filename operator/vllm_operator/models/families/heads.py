"""Heads and sizes of attention, by every field name in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.weights.fields import flag, integer, section

if TYPE_CHECKING:
    from vllm_operator.models.weights.fields import Config

MOST_LAYERS = 4096
MOST_HEADS = 65536


def required(config: Config, *names: str, most: int = 10**9) -> int:
    """Return the first of the named fields that is a positive integer.

    Raises:
        ModelConfigError: none of them is there, or it is beyond anything a model has.
    """
    value = integer(config, *names)
    if value <= 0:
        raise ModelConfigError(names[0], "missing or not a positive number; no KV cache can be computed without it")
    if value > most:
        raise ModelConfigError(names[0], f"{value} is beyond what any model has (at most {most})")
    return value


def layer_count(config: Config) -> int:
    """Return the number of decoder layers."""
    if integer(config, "decoder_layers") and flag(config, "is_encoder_decoder"):
        return required(config, "decoder_layers", most=MOST_LAYERS)
    names = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers")
    if not integer(config, *names):
        for name in ("layers_block_type", "layer_types", "block_configs"):
            stated = config.get(name)
            if isinstance(stated, (list, tuple)) and 0 < len(stated) <= MOST_LAYERS:
                return len(stated)
        pattern = config.get("hybrid_override_pattern")
        if isinstance(pattern, str) and 0 < len(pattern) <= MOST_LAYERS:
            return len(pattern)
    return required(config, *names, most=MOST_LAYERS)


def hidden_size(config: Config) -> int:
    """Return the width of the residual stream."""
    return required(config, "hidden_size", "n_embd", "d_model", "n_embed", "dim")


def attention_heads(config: Config) -> int:
    """Return the number of query heads."""
    names = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
    if isinstance(config.get("num_query_heads"), (list, tuple)):
        return _most(config["num_query_heads"])
    return required(config, *names, most=MOST_HEADS)


def kv_heads(config: Config) -> int:
    """Return the number of key/value heads: stated, one for multi-query, else one per query head."""
    if flag(config, "new_decoder_architecture"):
        return integer(config, "num_kv_heads") or attention_heads(config)
    if flag(config, "multi_query", "multi_query_attention"):
        return integer(config, "multi_query_group_num") or 1
    names = (
        "num_key_value_heads",
        "num_kv_heads",
        "n_head_kv",
        "n_kv_heads",
        "num_attention_groups",
        "multi_query_group_num",
    )
    nested = section(config, "attn_config")
    stated = integer(config, *names) or integer(nested, "kv_n_heads")
    if not stated and isinstance(config.get("num_kv_heads"), (list, tuple)):
        return _most(config["num_kv_heads"])
    heads = stated or attention_heads(config)
    return _bounded("num_key_value_heads", heads)


def head_size(config: Config) -> int:
    """Return the size of one head: stated, else hidden size over heads (wrong for many models that do state it)."""
    stated = integer(config, "head_dim", "attention_head_dim", "kv_channels", "hidden_size_per_head")
    if not stated and integer(config, "decoder_attention_heads"):
        return hidden_size(config) // attention_heads(config)
    return _bounded("head_dim", stated or hidden_size(config) // attention_heads(config))


def latent_width(config: Config) -> int:
    """Return the elements per token of a latent-attention cache, 0 for other models."""
    rank = integer(config, "kv_lora_rank")
    return _bounded("kv_lora_rank", rank + integer(config, "qk_rope_head_dim")) if rank else 0


def _bounded(name: str, value: int) -> int:
    if value > MOST_HEADS:
        raise ModelConfigError(name, f"{value} is beyond what any model has (at most {MOST_HEADS})")
    return value


def _most(values: list[object] | tuple[object, ...]) -> int:
    found = [value for value in values if isinstance(value, int) and not isinstance(value, bool) and value > 0]
    if not found:
        raise ModelConfigError("num_query_heads", "holds no positive number")
    return _bounded("num_query_heads", max(found))
