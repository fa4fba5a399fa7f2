"""`config.json` → `ModelFacts`, by fields and families, not by model names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.models.caches import attention_heads, head_size, kv_heads, layer_caches, required
from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.facts import ModelFacts
from vllm_operator.models.lengths import derived_max_model_len
from vllm_operator.models.weights.fields import integer, items, section, text

if TYPE_CHECKING:
    from vllm_operator.models.facts import CheckpointFacts, ModelSource
    from vllm_operator.models.weights.fields import Config

TEXT_SECTIONS: Final = ("text_config", "llm_config", "language_config", "thinker_config")
TOWER_SECTIONS: Final = ("vision_config", "audio_config", "vision_tower", "visual")
_DTYPES: Final = {
    "float16": "float16",
    "half": "float16",
    "bfloat16": "bfloat16",
    "float32": "float32",
    "float": "float32",
}


def parse_model(
    config: Mapping[str, Any],
    *,
    checkpoint: CheckpointFacts | None = None,
    hf_quant_config: Mapping[str, Any] | None = None,
    source: ModelSource | None = None,
) -> ModelFacts:
    """Return the facts of a model.

    `hf_quant_config` is ModelOpt's file beside the config, where there is one.

    Raises:
        ModelConfigError: the config is not an object, or lacks what no memory can be computed without.
    """
    if not isinstance(config, Mapping):
        raise ModelConfigError("config.json", "must be a JSON object")
    inner = language_config(config)
    architecture = next((name for name in items(config, "architectures") if isinstance(name, str)), "")
    if not architecture:
        raise ModelConfigError("architectures", "missing; vLLM cannot tell how to run the model")
    quantization = section(config, "quantization_config") or section(inner, "quantization_config")
    return ModelFacts(
        architecture=architecture,
        model_type=text(config, "model_type"),
        dtype=checkpoint_dtype(config),
        hidden_size=required(inner, "hidden_size", "n_embd", "d_model"),
        vocab_size=integer(inner, "vocab_size", "padded_vocab_size"),
        num_layers=required(inner, "num_hidden_layers", "n_layer", "num_layers", "n_layers"),
        num_attention_heads=attention_heads(inner),
        num_kv_heads=kv_heads(inner),
        head_dim=head_size(inner),
        max_model_len=derived_max_model_len(inner),
        quantization=quantization_method(quantization, hf_quant_config),
        kv_cache_quantized=_ships_fp8_kv(quantization, hf_quant_config),
        num_experts=integer(inner, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
        is_multimodal=any(section(config, name) for name in TOWER_SECTIONS),
        needs_remote_code="auto_map" in config and architecture not in _BUILT_IN_DESPITE_AUTO_MAP,
        generates=not architecture.endswith(_POOLING_SUFFIXES),
        caches=layer_caches(inner, architecture=architecture),
        checkpoint=checkpoint,
        source=source,
        config=config,
        hf_quant_config=hf_quant_config,
    )


def language_config(config: Config) -> Config:
    """Return the language model's part of a composite config; fields of the wrapper fill what it leaves out."""
    inner = section(config, *TEXT_SECTIONS)
    nested = section(inner, *TEXT_SECTIONS)
    return nested or inner or config


def checkpoint_dtype(config: Config) -> str:
    """Return the data type of the checkpoint, by the names and places in use; bfloat16 where none is stated."""
    for part in (config, language_config(config)):
        stated = text(part, "dtype", "torch_dtype").removeprefix("torch.")
        if stated in _DTYPES:
            return _DTYPES[stated]
    return "bfloat16"


def quantization_method(stated: Config, hf_quant_config: Config | None) -> str | None:
    """Return vLLM's name of the method that the checkpoint was quantized with."""
    if stated:
        return text(stated, "quant_method").lower() or None
    if hf_quant_config:
        algorithm = text(section(hf_quant_config, "quantization"), "quant_algo").upper()
        return "modelopt_fp4" if "FP4" in algorithm else "modelopt" if algorithm else None
    return None


def _ships_fp8_kv(stated: Config, hf_quant_config: Config | None) -> bool:
    scheme = section(stated, "kv_cache_scheme")
    if scheme and integer(scheme, "num_bits") == 8 and text(scheme, "type") == "float":
        return True
    own = section(hf_quant_config or {}, "quantization")
    return "FP8" in (text(own, "kv_cache_quant_algo") or text(stated, "kv_cache_quant_algo")).upper()


_POOLING_SUFFIXES: Final = ("Model", "ForSequenceClassification", "ForMaskedLM", "ForTokenClassification")
_BUILT_IN_DESPITE_AUTO_MAP: Final = frozenset(
    {
        "BaichuanForCausalLM",
        "DeepseekV2ForCausalLM",
        "DeepseekV3ForCausalLM",
        "DeepseekV32ForCausalLM",
        "InternLM2ForCausalLM",
        "KimiLinearForCausalLM",
        "MiMoV2FlashForCausalLM",
        "MiniMaxM2ForCausalLM",
        "NemotronHForCausalLM",
        "Phi3ForCausalLM",
    }
)
"""Classes whose configs name remote code although transformers or vLLM has them built in."""

__all__ = ["TEXT_SECTIONS", "checkpoint_dtype", "language_config", "parse_model", "quantization_method"]
