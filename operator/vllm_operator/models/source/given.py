"""Facts that the user gives in the cluster: a ConfigMap with the config, or a bare number of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.models.checkpoint import checkpoint_of_index
from vllm_operator.models.errors import ModelUnreadable
from vllm_operator.models.facts import CheckpointFacts, FactsBasis, ModelFacts, ModelSource
from vllm_operator.models.source.files import (
    CONFIG,
    INDEX,
    LM_HEAD_MARKER,
    MAX_CONFIG_BYTES,
    QUANTIZATION,
    ModelFiles,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKPOINT_BYTES = "checkpointBytes"
"""Key of a ConfigMap: total bytes of the weight files, as a decimal number."""


def facts_of_config_map(
    data: Mapping[str, str], *, uri: str, key: str = CONFIG, revision: str | None = None
) -> ModelFacts:
    """The facts in a ConfigMap's data.

    `key` holds config.json; `model.safetensors.index.json`, `hf_quant_config.json`, `checkpointBytes` and an empty
    `HAS_LM_HEAD` beside it are used when present. Raises `ModelUnreadable`.
    """
    where = f"the ConfigMap of spec.model.configRef for {uri}"
    if key not in data:
        present = ", ".join(sorted(data)[:10]) or "nothing"
        raise ModelUnreadable(f"{where} has no key {key!r} (it has {present}); set spec.model.configRef.key")
    return ModelFiles(
        config=_object(data[key], name=key, where=where),
        source=ModelSource(uri=uri, revision=revision),
        hf_quant_config=_object(data[QUANTIZATION], name=QUANTIZATION, where=where) if QUANTIZATION in data else None,
        checkpoint=_checkpoint(data, where),
    ).facts()


def _object(text: str, *, name: str, where: str) -> dict[str, Any]:
    if len(text) > MAX_CONFIG_BYTES:
        raise ModelUnreadable(f"{where}: {name} is longer than {MAX_CONFIG_BYTES} bytes")
    return parse_object(text, name=name, uri=where)


def _checkpoint(data: Mapping[str, str], where: str) -> CheckpointFacts | None:
    total = _total_bytes(data.get(CHECKPOINT_BYTES), where)
    if INDEX in data:
        return checkpoint_of_index(_object(data[INDEX], name=INDEX, where=where), total_bytes=total)
    if total is None and LM_HEAD_MARKER not in data:
        return None
    return CheckpointFacts(
        total_bytes=total,
        has_lm_head=True if LM_HEAD_MARKER in data else None,
        basis=FactsBasis.CHECKPOINT_SIZE if total is not None else FactsBasis.CONFIG,
    )


def _total_bytes(text: str | None, where: str) -> int | None:
    if text is None:
        return None
    if not text.strip().isdecimal() or len(text) > 20:
        raise ModelUnreadable(f"{where}: {CHECKPOINT_BYTES} is {text[:40]!r}, not a number of bytes")
    return int(text)


def facts_of_parameter_count(billions: float, *, uri: str, revision: str | None = None) -> ModelFacts:
    """The little that a bare number of parameters says: the weights, in 16 bits, and nothing of the KV cache.

    Such facts have no architecture, layers or length; what needs them must answer Unknown.
    """
    return ModelFacts(
        architecture="",
        model_type="",
        dtype="bfloat16",
        hidden_size=0,
        vocab_size=0,
        num_layers=0,
        num_attention_heads=0,
        num_kv_heads=0,
        head_dim=0,
        max_model_len=0,
        parameters=round(billions * 1e9),
        source=ModelSource(uri=uri, revision=revision),
        assumptions=(
            f"only the number of parameters ({billions:g} billion) is known: layers, KV cache and length are not",
        ),
    )
