"""From a raw config to the blueprint of its model: the family is found by `model_type`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vllm_operator.models.families.defaults import with_class_defaults
from vllm_operator.models.weights.families import encoders, hybrids, interleaved, nemotron
from vllm_operator.models.weights.families.decoder import dbrx, decoder
from vllm_operator.models.weights.families.deepseek_v4 import deepseek_v4
from vllm_operator.models.weights.families.latent import latent_decoder, longcat_flash, minicpm3
from vllm_operator.models.weights.families.towers import TOWERS
from vllm_operator.models.weights.families.traits import TRAITS
from vllm_operator.models.weights.fields import integer, items, section, text
from vllm_operator.models.weights.modules import Tensor, divided, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.models.weights.fields import Config
    from vllm_operator.models.weights.modules import Blueprint, Layer

_BUILDERS: dict[str, Callable[[Config], Blueprint]] = {
    "deepseek_v2": latent_decoder,
    "deepseek_v3": latent_decoder,
    "deepseek_v32": latent_decoder,
    "kimi_k2": latent_decoder,
    "glm_moe_dsa": latent_decoder,
    "glm4_moe_lite": latent_decoder,
    "deepseek_v4": deepseek_v4,
    "dbrx": dbrx,
    "longcat_flash": longcat_flash,
    "minicpm3": minicpm3,
    "minimax": interleaved.minimax_text,
    "minimax_m1": interleaved.minimax_text,
    "minimax_text_01": interleaved.minimax_text,
    "modernbert": encoders.modern_bert,
    "mamba": hybrids.mamba_model,
    "falcon_mamba": hybrids.mamba_model,
    "mamba2": hybrids.mamba2_model,
    "nemotron_h": nemotron.nemotron_h,
    "jamba": hybrids.jamba,
    "granitemoehybrid": hybrids.granite_hybrid,
    "bamba": hybrids.bamba,
    "falcon_h1": hybrids.falcon_h1,
    "lfm2": hybrids.lfm2,
    "lfm2_moe": hybrids.lfm2,
    "qwen3_next": hybrids.qwen3_next,
    "qwen3_5": hybrids.qwen3_next,
    "qwen3_5_text": hybrids.qwen3_next,
    "qwen3_5_moe": hybrids.qwen3_next,
    "qwen3_5_moe_text": hybrids.qwen3_next,
    "kimi_linear": hybrids.kimi_linear,
    "mimo_v2_flash": interleaved.mimo_v2,
    "mimo_v2": interleaved.mimo_v2,
    "minimax_m3": interleaved.minimax_m3,
    "minimax_m3_text": interleaved.minimax_m3,
    "llama4_text": interleaved.llama4,
    "gemma4_text": interleaved.gemma4,
    "gemma3n_text": interleaved.gemma3n,
    "bert": encoders.bert,
    "roberta": encoders.bert,
    "xlm-roberta": encoders.bert,
    "whisper": encoders.whisper,
}


def blueprint(config: Config) -> Blueprint:
    """The parts of a model. `exact` is False on it where the family, or a tower beside it, is not known."""
    inner = section(config, "text_config", "llm_config", "language_config")
    if not inner:
        tower = TOWERS.get(text(config, "model_type")) if section(config, "vision_config") else None
        return _with_tower(_language_model(config), config, tower)
    model = with_class_defaults({**inner, **_inherited(config)})
    return _with_tower(_language_model(model), config, TOWERS.get(text(config, "model_type")))


def _inherited(config: Config) -> dict[str, Any]:
    """What a wrapper says for the model inside it."""
    stated = config.get("tie_word_embeddings")
    if isinstance(stated, bool):
        return {"tie_word_embeddings": stated}
    return {"tie_word_embeddings": True} if text(config, "model_type") in _TIED_WRAPPERS else {}


_TIED_WRAPPERS = frozenset(
    {
        "aya_vision",
        "cohere2_vision",
        "ernie4_5_vl_moe",
        "gemma3",
        "gemma3n",
        "gemma4",
        "glmasr",
        "got_ocr2",
        "granite_speech",
        "granite_speech_plus",
        "lfm2_vl",
        "lighton_ocr",
        "ovis2",
        "paligemma",
        "qwen3_asr",
        "voxtral_realtime",
    }
)
"""Wrappers whose class ties the head of the model inside where they are silent, whatever that model says.

Mistral 3 and InternVL are left out: vLLM unties them when it sees the head that their checkpoints ship.
Sources: vllm/config/vllm.py `with_hf_config`@0.33.0, the composite config classes of transformers 5.
"""


def _with_tower(model: Blueprint, config: Config, tower: Callable[[Config], Layer] | None) -> Blueprint:
    if tower is not None:
        # An audio tower beside the vision tower is counted by its checkpoint or not at all.
        silent = not section(config, "audio_config") or text(config, "model_type") == "gemma3n"
        return replace(model, first=model.first + tower(config), exact=model.exact and silent)
    wrapped = any(section(config, name) for name in ("vision_config", "audio_config", "text_config"))
    return replace(model, exact=model.exact and not wrapped)


# Language models inside a wrapper that name their class but no model_type.
_KIND_BY_ARCHITECTURE = {
    "MiniMaxM3SparseForCausalLM": "minimax_m3",
    "DeepseekV3ForCausalLM": "deepseek_v3",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}


def _architecture(model: Config) -> str:
    return next((name for name in items(model, "architectures") if isinstance(name, str)), "")


def _language_model(model: Config) -> Blueprint:
    kind = text(model, "model_type") or _KIND_BY_ARCHITECTURE.get(_architecture(model), "")
    found = _by_kind(model, kind)
    found = replace(found, last=found.last + _reward_head(model))
    if kind in _EMBEDDING_EVERYWHERE or kind in _VOCABULARY_EVERYWHERE:
        both = found.vocabulary_everywhere or kind in _VOCABULARY_EVERYWHERE
        return replace(found, embedding_everywhere=True, vocabulary_everywhere=both)
    return found


_VOCABULARY_EVERYWHERE = frozenset(
    {"dbrx", "granitemoe", "granitemoehybrid", "granitemoeshared", "jamba", "mixtral", "nemotron_h", "olmoe", "phimoe"}
    | {"qwen2_moe", "qwen3_moe", "qwen3_next", "stablelm"}
)
"""Families whose class makes embedding and head on each pipeline stage (`vllm/model_executor/models/*.py`@0.33.0)."""
_EMBEDDING_EVERYWHERE = frozenset({"qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"})
"""Families whose class makes the embedding on each pipeline stage, and the head on the last only."""


def _reward_head(model: Config) -> Layer:
    """Two float32 layers that score a token (qwen2_rm.py), for models of reward."""
    if _architecture(model) not in ("Qwen2ForRewardModel", "Qwen2ForProcessRewardModel"):
        return ()
    hidden = integer(model, "hidden_size")
    labels = 2 if "Process" in _architecture(model) else 1
    return (
        Tensor(name="score.0", extents=(divided(hidden, 1), whole(hidden + 1)), dtype="float32"),
        Tensor(name="score.2", extents=(whole(labels), divided(hidden, 1)), dtype="float32"),
        Tensor(name="score.2.bias", extents=(whole(labels),), dtype="float32"),
    )


def _by_kind(model: Config, kind: str) -> Blueprint:
    builder = _BUILDERS.get(kind)
    if builder is not None:
        return builder(model)
    if integer(model, "kv_lora_rank"):
        return replace(latent_decoder(model), exact=False)
    traits = TRAITS.get(kind)
    if traits is None:
        return decoder(model, TRAITS["llama"], exact=False)
    return decoder(model, traits)
