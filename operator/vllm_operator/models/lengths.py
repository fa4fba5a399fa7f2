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
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_LENGTH_INCLUDES_SCALING: Final = frozenset({"su", "longrope", "llama3", "default", "mrope", "proportional"})
LENGTH_WHEN_UNSTATED: Final = 2048
"""vLLM's own choice where a config states no length."""


def derived_max_model_len(config: Config) -> int:
    """Return the longest sequence that the config allows: the smallest stated length times the rope factor."""
    stated = [value for name in _LENGTH_FIELDS if (value := integer(config, name)) > 0]
    if not stated:
        return LENGTH_WHEN_UNSTATED
    length = min(stated)
    scaling = section(config, "rope_scaling") or section(config, "rope_parameters")
    kind = text(scaling, "rope_type", "type")
    factor = number(scaling, "factor", default=1.0)
    if kind == "yarn":
        length = integer(scaling, "original_max_position_embeddings") or length
    if kind and kind not in _LENGTH_INCLUDES_SCALING and factor > 1:
        length = int(length * factor)
    return length
