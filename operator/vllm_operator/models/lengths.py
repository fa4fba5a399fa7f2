"""How long a sequence a model can be asked for, as vLLM derives it from the config.

Source: vllm/config/model.py:_get_and_verify_max_len@0.33.0.
"""

from __future__ import annotations

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
_LENGTH_INCLUDES_SCALING: Final = frozenset({"su", "longrope", "llama3", "default", "mrope", "proportional"})
_LONG_ROPE: Final = frozenset({"su", "longrope"})
LENGTH_WHEN_UNSTATED: Final = 2048
"""vLLM's own choice where a config states no length."""
_LONGEST: Final = 2**40


def derived_max_model_len(config: Config) -> int:
    """Return the longest sequence that the config allows.

    That is `model_max_length` where stated (Command-R), else the smallest stated length, times the rope factor. Gemma 3
    states a factor for its global layers that its length already includes.
    """
    stated = [value for name in _LENGTH_FIELDS if (value := integer(config, name)) > 0]
    length = integer(config, "model_max_length") or min(stated, default=0)
    if not length:
        return LENGTH_WHEN_UNSTATED
    scaling = _rope(config)
    kind = text(scaling, "rope_type", "type")
    factor = number(scaling, "factor", default=1.0)
    if text(config, "model_type").startswith("gemma3"):
        return length
    if kind == "yarn":
        length = integer(scaling, "original_max_position_embeddings") or length
    if kind and kind not in _LENGTH_INCLUDES_SCALING and factor > 1:
        length = int(min(length * factor, _LONGEST))
    return length


def default_max_model_len(config: Config) -> int:
    """Return the length that vLLM takes when none is asked for.

    LongRoPE models (Phi-3) fall back to the length that needs no scaling, so that short prompts stay accurate.
    """
    scaling = _rope(config)
    original = integer(scaling, "original_max_position_embeddings")
    original = original or integer(config, "original_max_position_embeddings")
    if text(scaling, "rope_type", "type") in _LONG_ROPE and original:
        return min(original, derived_max_model_len(config))
    return derived_max_model_len(config)


def _rope(config: Config) -> Config:
    return section(config, "rope_scaling") or section(config, "rope_parameters")
