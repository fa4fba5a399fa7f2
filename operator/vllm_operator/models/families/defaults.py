"""What a config class fills in where a `config.json` leaves a field out.

Composite configs often state only what differs from their language model's class. A field that is there but null stays
null. Source: the config classes of transformers 5 (`src/transformers/models/*/configuration_*.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.models.weights.fields import Config


def _sizes(hidden: int, intermediate: int, layers: int, heads: int, positions: int, vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": positions,
        "vocab_size": vocabulary,
    }


_GEMMA: Final = {"num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096}
_QWEN: Final = {"num_key_value_heads": 32, "sliding_window": 4096, "use_sliding_window": False}
DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "llama": _sizes(4096, 11008, 32, 32, 2048, 32000),
    "mistral": {**_sizes(4096, 14336, 32, 32, 131072, 32000), "num_key_value_heads": 8, "sliding_window": 4096},
    "mixtral": {**_sizes(4096, 14336, 32, 32, 131072, 32000), "num_key_value_heads": 8},
    "qwen2": {**_sizes(4096, 22016, 32, 32, 32768, 151936), **_QWEN},
    "qwen3": {**_sizes(4096, 22016, 32, 32, 32768, 151936), **_QWEN, "head_dim": 128},
    "phi3": _sizes(3072, 8192, 32, 32, 4096, 32064),
    "gemma": {**_sizes(3072, 24576, 28, 16, 8192, 256000), "num_key_value_heads": 16, "head_dim": 256},
    "gemma2": {**_sizes(2304, 9216, 26, 8, 8192, 256000), **_GEMMA},
    "gemma3_text": {**_sizes(2304, 9216, 26, 8, 131072, 262208), **_GEMMA},
    "gemma3n_text": {
        **_sizes(2048, 16384, 35, 8, 32768, 262400),
        "num_key_value_heads": 2,
        "head_dim": 256,
        "sliding_window": 512,
        "num_kv_shared_layers": 15,
    },
    "llama4_text": {
        **_sizes(5120, 8192, 48, 40, 131072, 202048),
        "num_key_value_heads": 8,
        "head_dim": 128,
        "attention_chunk_size": 8192,
    },
    "gpt_oss": {
        **_sizes(2880, 2880, 36, 64, 131072, 201088),
        "num_key_value_heads": 8,
        "head_dim": 64,
        "sliding_window": 128,
    },
}


def with_class_defaults(config: Config) -> Config:
    """Return the config with the fields that it leaves out filled in, where its class is known here."""
    family = config.get("model_type")
    defaults = DEFAULTS.get(family) if isinstance(family, str) else None
    if defaults is None or all(name in config for name in defaults):
        return config
    return {**defaults, **config}
