"""A checkpoint's quantization config, read as vLLM reads it.

`quantization_rules` turns `quantization_config` (or `hf_quant_config.json`) into `QuantizationRules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllm_operator.models.weights.formats import PLAIN, Storage, WeightFormat
from vllm_operator.models.weights.rules import (
    UNQUANTIZED,
    Pattern,
    QuantizationRules,
    Rule,
    canonical,
    ignores,
    rule_for,
)


def quantization_rules(config: Mapping[str, Any] | None, *, runtime: str | None = None) -> QuantizationRules:
    """The rules of a `quantization_config`, of an `hf_quant_config.json`, or of vLLM's `--quantization` alone."""
    if config is None:
        return _runtime_rules(runtime)
    inner = config.get("quantization")
    if isinstance(inner, Mapping):
        producer = config.get("producer")
        # vLLM reads hf_quant_config.json only when ModelOpt names itself in it (config/model.py).
        named = isinstance(producer, Mapping) and _text(producer.get("name")).startswith("modelopt")
        return _modelopt(inner) if named else _runtime_rules(runtime)
    method = _text(config.get("quant_method")).lower()
    if not method and config.get("quant_algo"):
        method = "modelopt"
    match method:
        case "fp8" | "fbgemm_fp8":
            return _fp8(config, method)
        case "compressed-tensors" | "compressed_tensors":
            return _compressed_tensors(config)
        case "awq" | "auto_awq":
            return _awq(config)
        case "gptq" | "auto_gptq":
            return _gptq(config)
        case "auto-round" | "auto_round" | "intel/auto-round" | "inc":
            return _auto_round(config)
        case "mxfp4" | "gpt_oss_mxfp4":
            fmt = WeightFormat(storage=Storage.MXFP4, bits=4, group=32)
            return QuantizationRules(method="mxfp4", experts=fmt)
        case "bitsandbytes":
            return _bitsandbytes(config)
        case "modelopt" | "modelopt_fp4" | "modelopt_mixed":
            return _modelopt(config)
        case "deepseek_v4_fp8":
            return _fp8(config, method)
        case _:
            return QuantizationRules(method=method or None, known=not method)


def _runtime_rules(method: str | None) -> QuantizationRules:
    """Quantization at load of a checkpoint that is not quantized (`--quantization fp8`)."""
    match method:
        case None:
            return UNQUANTIZED
        case "fp8" | "ptpc_fp8" | "fp8_per_tensor":
            fmt = WeightFormat(storage=Storage.BYTE_TENSOR, bits=8)
            return QuantizationRules(method=method, linear=fmt, experts=fmt)
        case "fp8_per_block":
            fmt = WeightFormat(storage=Storage.BYTE_BLOCK, bits=8)
            return QuantizationRules(method=method, linear=fmt, experts=fmt)
        case "int8_per_channel" | "experts_int8":
            fmt = WeightFormat(storage=Storage.BYTE_CHANNEL, bits=8)
            return QuantizationRules(method=method, linear=PLAIN if method == "experts_int8" else fmt, experts=fmt)
        case "mxfp8":
            fmt = WeightFormat(storage=Storage.MXFP8, bits=8)
            return QuantizationRules(method=method, linear=fmt, experts=fmt)
        case "bitsandbytes":
            fmt = WeightFormat(storage=Storage.NF4, bits=4)
            return QuantizationRules(method=method, linear=fmt, experts=fmt)
        case _:
            return QuantizationRules(method=method, known=False)


def _fp8(config: Mapping[str, Any], method: str) -> QuantizationRules:
    skipped = _strings(config.get("ignored_layers") or config.get("modules_to_not_convert"))
    block = config.get("weight_block_size")
    if isinstance(block, Sequence) and len(block) == 2 and all(isinstance(item, int) and item > 0 for item in block):
        fmt = WeightFormat(storage=Storage.BYTE_BLOCK, bits=8, block=(block[0], block[1]))
    elif method == "fbgemm_fp8":
        fmt = WeightFormat(storage=Storage.BYTE_CHANNEL, bits=8)
    else:
        static = config.get("activation_scheme") == "static"
        fmt = WeightFormat(storage=Storage.BYTE_TENSOR, bits=8, static_input_scale=static)
    return QuantizationRules(method=method, linear=fmt, experts=fmt, **ignores(skipped))


def deepseek_v4_rules(config: Mapping[str, Any], *, expert_dtype: str) -> QuantizationRules:
    """DeepSeek V4: FP8 blocks with one-byte scales, and routed experts in a format of their own."""
    base = _fp8(config, "deepseek_v4_fp8")
    linear = replace(base.linear, block_scale_bytes=1)
    experts = linear
    if _text(config.get("moe_quant_algo")).upper() == "NVFP4":
        experts = WeightFormat(storage=Storage.NVFP4, bits=4, group=_group(config.get("group_size")) or 16)
    elif expert_dtype == "fp4":
        experts = WeightFormat(storage=Storage.MXFP4, bits=4, group=32)
    return QuantizationRules(method="deepseek_v4_fp8", linear=linear, experts=experts)


def _awq(config: Mapping[str, Any]) -> QuantizationRules:
    fmt = WeightFormat(
        storage=Storage.PACKED_INT,
        bits=_positive(config.get("bits") or config.get("w_bit"), 4),
        group=_group(config.get("group_size") or config.get("q_group_size")),
        zero_points=True,
    )
    skipped = _strings(config.get("modules_to_not_convert"))
    return QuantizationRules(
        method="awq",
        linear=fmt,
        experts=fmt,
        patterns=tuple(Pattern(canonical(name), substring=True) for name in skipped),
        head_quantized=config.get("lm_head") is True,
    )


def _gptq(config: Mapping[str, Any]) -> QuantizationRules:
    fmt = WeightFormat(
        storage=Storage.PACKED_INT,
        bits=_positive(config.get("bits"), 4),
        group=_group(config.get("group_size")),
        zero_points=True,
        group_index=config.get("desc_act") is True,
    )
    dynamic = config.get("dynamic")
    excluded = [key[2:] for key in dynamic if key.startswith("-:")] if isinstance(dynamic, Mapping) else []
    return QuantizationRules(
        method="gptq",
        linear=fmt,
        experts=fmt,
        head_quantized=config.get("lm_head") is True,
        patterns=tuple(Pattern("re:" + name) for name in excluded)
        + tuple(Pattern(canonical(name), substring=True) for name in _strings(config.get("modules_to_not_convert"))),
    )


def _auto_round(config: Mapping[str, Any]) -> QuantizationRules:
    packing = _text(config.get("packing_format"))
    bits = _positive(config.get("bits"), 4)
    fmt = WeightFormat(
        storage=Storage.PACKED_INT,
        bits=bits,
        group=_group(config.get("group_size")),
        zero_points=True,
        group_index="gptq" in packing and config.get("desc_act") is True,
    )
    extra = config.get("extra_config")
    plain = []
    if isinstance(extra, Mapping):
        for name, setting in extra.items():
            if isinstance(setting, Mapping) and _positive(setting.get("bits"), bits) >= 16:
                plain.append(str(name))
    blocks = config.get("block_name_to_quantize") or config.get("to_quant_block_names")
    named = blocks.split(",") if isinstance(blocks, str) else _strings(blocks)
    rules: tuple[Rule, ...] = ()
    if named:
        rules = (rule_for(fmt, named),)
    return QuantizationRules(method="auto-round", linear=fmt, experts=fmt, rules=rules, **ignores(plain))


def _bitsandbytes(config: Mapping[str, Any]) -> QuantizationRules:
    four = config.get("load_in_4bit") is True or config.get("_load_in_4bit") is True
    fmt = WeightFormat(storage=Storage.NF4 if four else Storage.INT8_ROW, bits=4 if four else 8)
    skipped = _strings(config.get("llm_int8_skip_modules"))
    return QuantizationRules(
        method="bitsandbytes",
        linear=fmt,
        experts=fmt,
        patterns=tuple(Pattern(canonical(name), prefix=True) for name in skipped),
    )


def _modelopt(config: Mapping[str, Any]) -> QuantizationRules:
    algorithm = _text(config.get("quant_algo")).upper()
    skipped = _strings(config.get("exclude_modules") or config.get("ignore"))
    if algorithm == "MIXED_PRECISION":
        return _modelopt_mixed(config, skipped)
    fmt = _modelopt_format(algorithm, config)
    if fmt is None:
        return QuantizationRules(method="modelopt", known=False)
    return QuantizationRules(method="modelopt", linear=fmt, experts=fmt, **ignores(skipped))


def _modelopt_format(algorithm: str, config: Mapping[str, Any]) -> WeightFormat | None:
    match algorithm:
        case "FP8":
            return WeightFormat(storage=Storage.BYTE_TENSOR, bits=8, static_input_scale=True)
        case "FP8_PER_CHANNEL_PER_TOKEN":
            return WeightFormat(storage=Storage.BYTE_CHANNEL, bits=8)
        case "FP8_PB_WO" | "FP8_PB":
            return WeightFormat(storage=Storage.BYTE_BLOCK, bits=8)
        case "NVFP4" | "NVFP4_AWQ" | "W4A16_NVFP4":
            return WeightFormat(storage=Storage.NVFP4, bits=4, group=_group(config.get("group_size")) or 16)
        case "MXFP8":
            return WeightFormat(storage=Storage.MXFP8, bits=8, group=32)
        case _:
            return None


def _modelopt_mixed(config: Mapping[str, Any], skipped: Sequence[str]) -> QuantizationRules:
    layers = config.get("quantized_layers")
    by_format: dict[WeightFormat, list[str]] = {}
    if isinstance(layers, Mapping):
        for name, setting in layers.items():
            # Every expert of a layer is stored alike: the first speaks for the thousands of others.
            if not isinstance(setting, Mapping) or (".experts." in str(name) and ".experts.0." not in str(name)):
                continue
            fmt = _modelopt_format(_text(setting.get("quant_algo")).upper(), setting)
            if fmt is not None:
                by_format.setdefault(fmt, []).append(str(name))
    rules = [rule_for(fmt, names) for fmt, names in by_format.items()]
    if not rules:
        rules = list(_compressed_groups(config, modelopt=True))
    return QuantizationRules(method="modelopt", rules=tuple(rules), known=bool(rules), **ignores(skipped))


def _compressed_tensors(config: Mapping[str, Any]) -> QuantizationRules:
    skipped = _strings(config.get("ignore"))
    rules = _compressed_groups(config, modelopt=False)
    if len(rules) == 1 and rules[0].everything:
        fmt = rules[0].fmt
        return QuantizationRules(method="compressed-tensors", linear=fmt, experts=fmt, **ignores(skipped))
    return QuantizationRules(method="compressed-tensors", rules=rules, known=bool(rules), **ignores(skipped))


def _compressed_groups(config: Mapping[str, Any], *, modelopt: bool) -> tuple[Rule, ...]:
    groups = config.get("config_groups")
    if not isinstance(groups, Mapping):
        return ()
    rules = []
    for group in groups.values():
        if not isinstance(group, Mapping) or not isinstance(group.get("weights"), Mapping):
            continue
        fmt = _compressed_format(group, _text(group.get("format") or config.get("format")), modelopt=modelopt)
        targets = _strings(group.get("targets"))
        everything = any(target in ("Linear", "FusedMoE", "RoutedExperts") for target in targets)
        rules.append(rule_for(fmt, targets, everything=everything))
    return tuple(rules)


def _compressed_format(group: Mapping[str, Any], form: str, *, modelopt: bool) -> WeightFormat:
    weights = group["weights"]
    activations = group.get("input_activations")
    bits = _positive(weights.get("num_bits"), 8)
    kind = _text(weights.get("type")) or "int"
    strategy = _text(weights.get("strategy"))
    size = _group(weights.get("group_size"))
    static = isinstance(activations, Mapping) and activations.get("dynamic") is False
    if kind == "float" and bits == 4:
        if size == 32 or "mxfp4" in form:
            return WeightFormat(storage=Storage.MXFP4, bits=4, group=32)
        return WeightFormat(storage=Storage.NVFP4, bits=4, group=size or 16)
    if kind == "float" and size == 32:
        return WeightFormat(storage=Storage.MXFP8, bits=8, group=32)
    if "pack" in form or (kind == "int" and not isinstance(activations, Mapping)):
        return WeightFormat(
            storage=Storage.PACKED_INT,
            bits=bits,
            group=size,
            zero_points=weights.get("symmetric") is False,
            group_index=_text(weights.get("actorder")) == "group",
            shape_note=True,
        )
    if strategy == "block" or isinstance(weights.get("block_structure"), (list, tuple)):
        block = weights.get("block_structure")
        shape = (block[0], block[1]) if isinstance(block, (list, tuple)) and len(block) == 2 else (128, 128)
        return WeightFormat(storage=Storage.BYTE_BLOCK, bits=8, block=shape)
    if modelopt or (strategy == "tensor" and kind == "float"):
        return WeightFormat(storage=Storage.BYTE_TENSOR, bits=8, static_input_scale=static)
    return WeightFormat(storage=Storage.BYTE_CHANNEL, bits=8, static_input_scale=static)


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(item for item in value if isinstance(item, str))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _positive(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def _group(value: object) -> int:
    """Group size; -1 (one group for the whole row) becomes 0."""
    return _positive(value, 0)
