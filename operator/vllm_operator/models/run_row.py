"""One start of vLLM as a user, a log or a plan asks for it: the border of `vllm-operator predict` (pydantic).

A row says null for what it does not know: vLLM's own default for that version and GPU then applies.
"""

from __future__ import annotations

import functools
import re
import shlex
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vllm_operator.models.facts import EngineSettings
from vllm_operator.models.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIELDS_BY_FLAG = {
    "tensor_parallel_size": "tp",
    "pipeline_parallel_size": "pp",
    "data_parallel_size": "dp",
    "enable_expert_parallel": "ep",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "max_model_len": "max_model_len",
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "kv_cache_dtype": "kv_cache_dtype",
    "dtype": "dtype",
    "quantization": "quantization",
    "enforce_eager": "enforce_eager",
    "speculative_config": "speculative",
    "block_size": "block_size",
    "decode_context_parallel_size": "decode_context_parallel_size",
}

_LAST_V0_RELEASE = "0.7.3"

_POOLING_NAME = re.compile(r"embedding|reranker|reward", re.IGNORECASE)
"""Names of models that are served for vectors or scores although their config is that of a generating model: vLLM sees
it from the repository's `modules.json`, which a config alone does not show."""

_ENVIRONMENT = re.compile(r"(VLLM_[A-Z0-9_]+)=(.*)")


_LENGTH = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([kKmM]?)", re.ASCII)
_LENGTH_UNITS = {"": 1, "k": 1000, "K": 1024, "m": 1000**2, "M": 1024**2}


class RowError(ValueError):
    """A row that cannot be answered; the message says what is missing."""


class RunRow(BaseModel):
    """One start of vLLM as asked for. Unknown fields are ignored: measured runs carry their outcome too."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str | int | None = None
    model: str | None = None
    config_dir: str | None = None
    config: dict[str, Any] | None = None
    checkpoint_bytes: int | None = Field(default=None, gt=0)
    checkpoint_quantization: str | None = None
    vllm_version: str | None = None
    engine: str | None = None
    gpu: str | None = None
    gpu_memory_gib: float | None = Field(default=None, gt=0, le=4096)
    unified_memory: bool | None = None
    tp: int | None = Field(default=None, ge=1, le=1024)
    pp: int | None = Field(default=None, ge=1, le=1024)
    dp: int | None = Field(default=None, ge=1, le=4096)
    ep: bool | None = None
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = Field(default=None, ge=1)
    max_num_seqs: int | None = Field(default=None, ge=1)
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    kv_cache_dtype: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    block_size: int | None = Field(default=None, ge=1, le=65536)
    decode_context_parallel_size: int | None = Field(default=None, ge=1, le=1024)
    enforce_eager: bool | None = None
    speculative: dict[str, Any] | str | None = None
    lora: dict[str, Any] | bool | None = None
    flags: dict[str, Any] | None = None
    other_flags: dict[str, Any] | str | None = None
    available_kv_cache_gib: float | None = Field(default=None, gt=0, le=65536)

    @field_validator("kv_cache_dtype")
    @classmethod
    def _plain_kv_dtype(cls, value: str | None) -> str | None:
        """`auto (resolved fp8: …)` as notes have it: what it resolved to, else the first word."""
        if value is None:
            return None
        resolved = re.search(r"\(resolved (\w+)", value)
        word = resolved.group(1) if resolved else value.split()[0] if value.split() else "auto"
        return {"bf16": "auto", "fp16": "auto"}.get(word, word)

    @field_validator("max_model_len", mode="before")
    @classmethod
    def _plain_length(cls, value: object) -> object:
        """`128k` and `128K` are 128,000 and 131,072 (vllm/engine/arg_utils.py `human_readable_int`)."""
        match = _LENGTH.fullmatch(value.strip()) if isinstance(value, str) else None
        return int(float(match[1]) * _LENGTH_UNITS[match[2]]) if match else value

    def all_flags(self) -> dict[str, Any]:
        """`other_flags` under `flags`: names with underscores, `no_enable_x` as `enable_x` that is off."""
        others = self.other_flags
        if not others and not self.flags:
            return {}
        parsed = dict(_parse_command_line(others)) if isinstance(others, str) else others or {}
        return dict(_positive(name, value) for name, value in {**parsed, **(self.flags or {})}.items())


def engine_settings(row: RunRow) -> EngineSettings:
    """What the row asks of vLLM. A flag that has a field of its own fills it, unless the field is stated.

    Raises `RowError` when such a flag holds what its field cannot.
    """
    flags = row.all_flags()
    if flags:
        row = _with_flags(row, flags)
    if row.model and "runner" not in flags and _names_pooling(row.model):
        flags["runner"] = "pooling"
    return EngineSettings(
        version=_version(row.vllm_version, row.engine),
        tensor_parallel_size=row.tp or 1,
        pipeline_parallel_size=row.pp or 1,
        data_parallel_size=row.dp or 1,
        decode_context_parallel_size=row.decode_context_parallel_size or 1,
        enable_expert_parallel=bool(row.ep),
        max_model_len=row.max_model_len,
        max_num_seqs=row.max_num_seqs,
        max_num_batched_tokens=row.max_num_batched_tokens,
        gpu_memory_utilization=row.gpu_memory_utilization,
        dtype=row.dtype or "auto",
        kv_cache_dtype=row.kv_cache_dtype or "auto",
        quantization=row.quantization or _checkpoint_method(row.checkpoint_quantization),
        block_size=row.block_size,
        enforce_eager=bool(row.enforce_eager),
        speculative=_speculative(row.speculative),
        lora=_lora(row.lora, flags),
        flags=flags,
    )


@functools.lru_cache(maxsize=1024)
def _names_pooling(model: str) -> bool:
    return _POOLING_NAME.search(model) is not None


def _with_flags(row: RunRow, flags: dict[str, Any]) -> RunRow:
    """The row with flags moved into their fields, taken out of `flags`."""
    moved = {name: flags.pop(flag) for flag, name in _FIELDS_BY_FLAG.items() if flag in flags}
    moved = {name: value for name, value in moved.items() if getattr(row, name) is None}
    if not moved:
        return row
    try:
        return RunRow.model_validate({**row.model_dump(), **moved})
    except ValidationError as error:
        problem = error.errors()[0]
        message = f"flag for {problem['loc'][0]}: {problem['msg']}"
        raise RowError(message) from None


def _positive(name: str, value: object) -> tuple[str, object]:
    """`--no-enable-x` and vLLM's other negative spellings as the setting that they turn off."""
    if value is True and name.startswith("no_"):
        return name.removeprefix("no_"), False
    if value is True and name in _NEGATIVE:
        return f"enable_{name.removeprefix('disable_')}", False
    return name, value


_NEGATIVE = frozenset({"disable_prefix_caching", "disable_chunked_prefill"})
"""Spellings of 0.33 for what was `--no-enable-…`."""


def _version(stated: str | None, engine: str | None) -> str:
    """The version asked for; V0 in a version that had both engines is answered as the last that had only V0."""
    if engine == "V0" and (0, 8, 0) <= parse_version(stated).release < (0, 11, 0):
        return _LAST_V0_RELEASE
    return stated or ""


_CHECKPOINT_METHODS = {"fp8": "fp8", "bitsandbytes": "bitsandbytes", "bnb": "bitsandbytes"}


def _checkpoint_method(note: str | None) -> str | None:
    """The method that a note on the checkpoint names (`fp8 (online)`): it counts where the config names none."""
    if not note:
        return None
    words = note.split()
    return _CHECKPOINT_METHODS.get(words[0]) if words else None


def _speculative(stated: Mapping[str, Any] | str | None) -> Mapping[str, object] | None:
    if not stated:
        return None
    if not isinstance(stated, str):
        return stated
    method = re.search(r"method='?(\w+)|^(\w+)", stated)
    name = next((group for group in method.groups() if group), stated) if method else stated
    return {"method": name}


def _lora(stated: Mapping[str, Any] | bool | None, flags: Mapping[str, Any]) -> Mapping[str, object] | None:
    """Adapters as the row states them, or as the flags do; the flags fill in what the row leaves open."""
    if not stated and not (stated is None and flags.get("enable_lora") is True):
        return None
    named = {name: flags[name] for name in ("max_loras", "max_lora_rank") if name in flags}
    return {**named, **(stated if isinstance(stated, dict) else {})}


@functools.lru_cache(maxsize=256)
def _parse_command_line(text: str) -> Mapping[str, Any]:
    """Flags of a command line, and environment variables set before it; other words are notes and are left out."""
    try:
        words = shlex.split(text.replace(";", " "))
    except ValueError:
        return {}
    flags: dict[str, Any] = {}
    name: str | None = None
    for word in words:
        if word.startswith("--"):
            flag, _, value = word[2:].partition("=")
            name = flag.replace("-", "_")
            flags[name] = _scalar(value) if value else True
        elif (setting := _ENVIRONMENT.fullmatch(word)) is not None:
            flags[setting[1]] = _scalar(setting[2])
        elif name is not None:
            flags[name] = _scalar(word)
            name = None
    return flags


def _scalar(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
