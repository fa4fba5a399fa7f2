"""`config.json` → `ModelFacts`, by fields and families, not by model names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.models.architectures import KNOWN_ARCHITECTURES
from vllm_operator.models.caches import AttentionCache, CrossCache, LatentCache, PackedCache
from vllm_operator.models.errors import ModelConfigError
from vllm_operator.models.facts import ModelFacts
from vllm_operator.models.families.defaults import with_class_defaults
from vllm_operator.models.families.heads import attention_heads, head_size, hidden_size, kv_heads, layer_count
from vllm_operator.models.families.kinds import unknown_kinds
from vllm_operator.models.families.layers import draft_caches, model_caches
from vllm_operator.models.lengths import default_max_model_len, derived_max_model_len
from vllm_operator.models.weights.fields import flag, integer, items, section, text

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
    architecture = stated_architecture(config, inner)
    quantization = section(config, "quantization_config") or section(inner, "quantization_config")
    looks_both_ways = is_encoder_only(architecture) or is_bidirectional(inner)
    caches = () if looks_both_ways else model_caches(inner, architecture=architecture)
    has_attention = any(isinstance(cache, _HEADED) for layer in caches for cache in layer) or not caches
    stated_kv = kv_cache_dtype_of_checkpoint(quantization, hf_quant_config)
    return ModelFacts(
        architecture=architecture,
        model_type=text(config, "model_type"),
        dtype=checkpoint_dtype(config),
        hidden_size=hidden_size(inner),
        vocab_size=integer(inner, "vocab_size", "padded_vocab_size"),
        num_layers=layer_count(inner),
        num_attention_heads=attention_heads(inner) if has_attention else 0,
        num_kv_heads=kv_heads(inner) if has_attention else 0,
        head_dim=head_size(inner) if has_attention else 0,
        max_model_len=derived_max_model_len(inner),
        default_max_model_len=default_max_model_len(inner),
        quantization=quantization_method(quantization, hf_quant_config),
        kv_cache_quantized=stated_kv is not None,
        kv_cache_dtype=stated_kv,
        num_experts=integer(inner, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
        is_multimodal=any(section(config, name) for name in TOWER_SECTIONS),
        needs_remote_code="auto_map" in config and architecture not in _BUILT_IN_DESPITE_AUTO_MAP,
        generates=not (looks_both_ways or architecture.endswith(_POOLING_SUFFIXES)),
        is_encoder_decoder=flag(config, "is_encoder_decoder"),
        caches=caches,
        draft_caches=draft_caches(inner, caches),
        checkpoint=checkpoint,
        source=source,
        assumptions=_assumptions(inner, architecture),
        config=config,
        hf_quant_config=hf_quant_config,
    )


def stated_architecture(config: Config, inner: Config) -> str:
    """Return vLLM's class for the model: the first entry of `architectures`, the wrapper's before the inner one's.

    Raises:
        ModelConfigError: neither names one.
    """
    for part in (config, inner):
        name = next((name for name in items(part, "architectures")[:64] if isinstance(name, str) and name), "")
        if name:
            return name
    raise ModelConfigError("architectures", "missing; vLLM cannot tell how to run the model")


def is_encoder_only(architecture: str) -> bool:
    """Whether the class encodes whole texts at once and keeps no KV cache."""
    return architecture.startswith(_ENCODER_PREFIXES)


def is_bidirectional(inner: Config) -> bool:
    """Whether a decoder's class is told to attend both ways, which makes it an encoder without a KV cache.

    Source: `is_causal` in vllm/model_executor/models/{gemma3,llama,qwen2,qwen3}.py and `Gemma3TextModelConfig`.
    """
    stated = flag(inner, "use_bidirectional_attention") and text(inner, "model_type") == "gemma3_text"
    return stated or not flag(inner, "is_causal", default=True)


def _assumptions(inner: Config, architecture: str) -> tuple[str, ...]:
    """What was taken for granted because the config names something that is not known here."""
    found = [f"layers of kind {kind!r} were counted as full attention" for kind in unknown_kinds(inner)]
    if flag(inner, "use_cla"):
        found.append("layers that share their cache across layers (use_cla) were counted with one each")
    if architecture not in KNOWN_ARCHITECTURES and not is_encoder_only(architecture):
        found.append(
            f"{architecture} is not among the classes of vLLM 0.33 that are known here; "
            "its cache was computed from the fields of its config alone"
        )
    return tuple(found)


def language_config(config: Config) -> Config:
    """Return the language model's part of a composite config, with what its class fills in where it is silent."""
    inner = section(config, *TEXT_SECTIONS)
    nested = section(inner, *TEXT_SECTIONS)
    return with_class_defaults(nested or inner or config)


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
        algorithm = text(_modelopt_file(hf_quant_config), "quant_algo").upper()
        return "modelopt_fp4" if "FP4" in algorithm else "modelopt" if algorithm else None
    return None


def _modelopt_file(hf_quant_config: Config | None) -> Config:
    """What ModelOpt's own file states; vLLM reads it only where `producer` names ModelOpt."""
    file = hf_quant_config or {}
    is_own = text(section(file, "producer"), "name").lower() == "modelopt"
    return section(file, "quantization") if is_own else {}


def kv_cache_dtype_of_checkpoint(stated: Config, hf_quant_config: Config | None) -> str | None:
    """Return the data type that `--kv-cache-dtype auto` takes from the checkpoint, None for the model's own.

    Source: vllm/utils/torch_utils.py `resolve_kv_cache_dtype_string`@0.33.0.
    """
    scheme = section(stated, "kv_cache_scheme")
    is_modelopt = text(stated, "quant_method").lower().startswith("modelopt")
    if scheme and integer(scheme, "num_bits") == 8 and text(scheme, "type") == "float":
        return "fp8_e4m3" if is_modelopt else "fp8"
    algorithm = text(stated or _modelopt_file(hf_quant_config), "kv_cache_quant_algo")
    if algorithm.upper() == "NVFP4":
        return "nvfp4"
    return "fp8_e4m3" if "FP8" in algorithm.upper() else None


_POOLING_SUFFIXES: Final = ("Model", "ForSequenceClassification", "ForMaskedLM", "ForTokenClassification")
_ENCODER_PREFIXES: Final = (
    "Bert",
    "Roberta",
    "XLMRoberta",
    "ModernBert",
    "NomicBert",
    "GteNew",
    "GteModel",
    "NewModel",
    "NewForSequenceClassification",
    "SnowflakeGte",
    "Alibaba",
    "Jina",
    "LlamaBidirectional",
    "DistilBert",
    "Electra",
    "Deberta",
    "ErnieModel",
    "ErnieForSequenceClassification",
    "CLIP",
    "Siglip",
    "Prithvi",
    "Terratorch",
    "ColBERT",
    "HF_ColBERT",
    "SplinterModel",
    "MPNet",
    "Camembert",
)
_HEADED: Final = (AttentionCache, CrossCache, LatentCache, PackedCache)
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
