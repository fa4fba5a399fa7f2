"""How long a sequence a model can be asked for, as vLLM derives it from the config.

Source: vllm/config/model.py:_get_and_verify_max_len@0.33.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vllm_operator.models.weights.fields import Config, integer, number, section, text

_LENGTH_FIELDS: Final = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_LONG_ROPE: Final = frozenset({"su", "longrope"})
_LENGTH_INCLUDES_SCALING: Final = _LONG_ROPE | {"llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"}
"""Kinds of rotary scaling whose factor `max_position_embeddings` already includes."""
LENGTH_WHEN_UNSTATED: Final = 2048
"""vLLM's own choice where a config states no length."""
_LONGEST: Final = 2**40
_MOST_KINDS: Final = 64


def derived_max_model_len(config: Config) -> int:
    """Return the longest sequence that the config allows.

    That is `model_max_length` where stated (Command-R), else the smallest stated length, times the rope factor. Gemma 3
    states a factor for its global layers that its length already includes; so do YaRN's configs.
    """
    stated = [value for name in _LENGTH_FIELDS if (value := integer(config, name)) > 0]
    length = integer(config, "model_max_length") or min(stated, default=0)
    if not length:
        return LENGTH_WHEN_UNSTATED
    if text(config, "model_type").startswith("gemma3"):
        return length
    factor = 1.0
    for rope in _ropes(config):
        if text(rope, "rope_type", "type") not in _LENGTH_INCLUDES_SCALING:
            factor = number(rope, "factor", default=factor)
    return max(1, int(min(length * factor, _LONGEST))) if factor > 0 else length


def default_max_model_len(config: Config) -> int:
    """Return the length that vLLM takes when none is asked for.

    LongRoPE models (Phi-3) fall back to the length that needs no scaling, so that short prompts stay accurate.
    """
    longest = derived_max_model_len(config)
    for rope in _ropes(config):
        original = integer(rope, "original_max_position_embeddings")
        original = original or integer(config, "original_max_position_embeddings")
        if text(rope, "rope_type", "type") in _LONG_ROPE and original:
            return min(original, longest)
    return longest


def _ropes(config: Config) -> tuple[Config, ...]:
    """The rotary scaling, one for each kind of layer where a config states them so (`rope_parameters`)."""
    rope = section(config, "rope_scaling") or section(config, "rope_parameters")
    nested = tuple(part for part in rope.values() if isinstance(part, Mapping)) if len(rope) <= _MOST_KINDS else ()
    return nested or (rope,)
