"""Quantization configs as they are found, and the format that each layer of the checkpoint then has."""

from __future__ import annotations

import time
from typing import Any

import pytest

from vllm_operator.models.weights.formats import (
    PLAIN,
    ExpertPadding,
    Storage,
    WeightFormat,
    bytes_per_weight,
    experts_bytes,
    linear_bytes,
)
from vllm_operator.models.weights.quantization import quantization_rules
from vllm_operator.models.weights.rules import canonical

QKV = "model.layers.0.self_attn.qkv_proj"
QKV_PARTS = ("q_proj", "k_proj", "v_proj")
DOWN = "model.layers.0.mlp.down_proj"

_FP8_WEIGHTS = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True}
_INT4_WEIGHTS = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}


def compressed(weights: dict[str, Any], **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": more.pop("activations", None)}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, **more}


@pytest.mark.parametrize(
    ("config", "storage", "bits"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, Storage.BYTE_TENSOR, 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, Storage.BYTE_BLOCK, 8),
        ({"quant_method": "fbgemm_fp8"}, Storage.BYTE_CHANNEL, 8),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, Storage.PACKED_INT, 4),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, Storage.PACKED_INT, 8),
        ({"quant_method": "auto-round", "bits": 2, "group_size": 64}, Storage.PACKED_INT, 2),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, Storage.NF4, 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, Storage.INT8_ROW, 8),
        (
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}},
            Storage.NVFP4,
            4,
        ),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, Storage.BYTE_TENSOR, 8),
        (compressed(_FP8_WEIGHTS, activations={"dynamic": False}), Storage.BYTE_TENSOR, 8),
        (compressed({**_FP8_WEIGHTS, "strategy": "channel"}, activations={"dynamic": True}), Storage.BYTE_CHANNEL, 8),
        (
            compressed({**_FP8_WEIGHTS, "strategy": "block", "block_structure": [128, 128]}, activations={}),
            Storage.BYTE_BLOCK,
            8,
        ),
        (compressed(_INT4_WEIGHTS, format="pack-quantized"), Storage.PACKED_INT, 4),
        (
            compressed({"num_bits": 8, "type": "int", "strategy": "channel"}, activations={"dynamic": True}),
            Storage.BYTE_CHANNEL,
            8,
        ),
        (
            compressed({"num_bits": 4, "type": "float", "group_size": 16}, format="nvfp4-pack-quantized"),
            Storage.NVFP4,
            4,
        ),
        (
            compressed({"num_bits": 4, "type": "float", "group_size": 32}, format="mxfp4-pack-quantized"),
            Storage.MXFP4,
            4,
        ),
    ],
)
def test_each_method_has_its_format(config: dict[str, Any], storage: Storage, bits: int) -> None:
    rules = quantization_rules(config)
    fmt = rules.for_linear(QKV, QKV_PARTS)
    assert (fmt.storage, fmt.bits, rules.known) == (storage, bits, True)


@pytest.mark.parametrize("method", ["quark", "torchao", "hqq", "gguf", "exl3"])
def test_methods_that_are_not_modelled_say_so(method: str) -> None:
    assert not quantization_rules({"quant_method": method}).known


def test_nobodys_hf_quant_config_is_not_read() -> None:
    rules = quantization_rules({"quantization": {"quant_algo": "FP8"}})
    assert rules.for_linear(QKV) is PLAIN


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("model.layers.0.mlp.down_proj", True),
        ("language_model.model.layers.0.mlp.down_proj", True),
        ("model.language_model.layers.0.mlp.down_proj", True),
        ("model.layers.0.mlp*", True),
        ("model.layers.*.down_proj", True),
        ("re:.*mlp.*", True),
        ("re:model\\.layers\\.0\\..*", True),
        ("re:layers\\.0\\.mlp\\.(gate|up|down)_proj$", True),
        ("model.layers.0.mlp", False),
        ("model.layers.1.mlp.down_proj", False),
        ("re:mlp", False),
        ("re:([", False),
    ],
)
def test_layers_are_left_alone_by_name(name: str, ignored: bool) -> None:
    rules = quantization_rules(compressed(_FP8_WEIGHTS, activations={"dynamic": True}, ignore=[name]))
    assert (rules.for_linear(DOWN) is PLAIN) is ignored


def test_a_fused_layer_is_left_alone_when_all_its_parts_are() -> None:
    parts = [f"model.layers.0.self_attn.{part}" for part in QKV_PARTS]
    whole = quantization_rules({"quant_method": "fp8", "modules_to_not_convert": parts})
    some = quantization_rules({"quant_method": "fp8", "modules_to_not_convert": parts[:2]})
    assert whole.for_linear(QKV, QKV_PARTS) is PLAIN
    assert some.for_linear(QKV, QKV_PARTS) is not PLAIN


def test_awq_leaves_alone_by_part_of_a_name() -> None:
    rules = quantization_rules({"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["mlp"]})
    assert rules.for_linear(DOWN) is PLAIN
    assert rules.for_linear(QKV, QKV_PARTS).storage is Storage.PACKED_INT


def test_named_layers_come_before_their_class() -> None:
    config = compressed(_FP8_WEIGHTS, activations={"dynamic": True})
    config["config_groups"]["group_1"] = {"targets": ["re:.*down_proj"], "weights": _INT4_WEIGHTS}
    rules = quantization_rules(config)
    assert rules.for_linear(DOWN).storage is Storage.PACKED_INT
    assert rules.for_linear(QKV, QKV_PARTS).storage is Storage.BYTE_TENSOR


def test_a_mixed_checkpoint_has_a_format_for_each_layer() -> None:
    layers = {
        "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
        "model.layers.0.mlp.experts.0.w2": {"quant_algo": "NVFP4", "group_size": 16},
        "lm_head": {"quant_algo": "NVFP4", "group_size": 16},
    }
    rules = quantization_rules(
        {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    )
    assert rules.for_linear(QKV, QKV_PARTS).storage is Storage.BYTE_TENSOR
    assert rules.for_experts("model.layers.0.mlp.experts").storage is Storage.NVFP4
    assert rules.for_head("lm_head").storage is Storage.NVFP4
    assert rules.for_linear(DOWN) is PLAIN


def test_the_head_stays_plain_unless_it_is_named() -> None:
    assert quantization_rules({"quant_method": "fp8"}).for_head("lm_head") is PLAIN
    assert quantization_rules({"quant_method": "gptq", "bits": 4, "lm_head": True}).for_head("lm_head") is not PLAIN


def test_auto_round_leaves_out_what_its_extra_config_says() -> None:
    rules = quantization_rules(
        {"quant_method": "auto-round", "bits": 4, "extra_config": {"model.layers.0.mlp.down_proj": {"bits": 16}}}
    )
    assert rules.for_linear(DOWN) is PLAIN
    assert rules.for_linear(QKV, QKV_PARTS).bits == 4


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(.*)*x", ".*a.*b.*c.*d.*e.*f.*g.*h", "(\\w+\\s?)*!", "x" * 5000, "(" * 500]
)
def test_expressions_of_strangers_never_take_long(pattern: str) -> None:
    rules = quantization_rules(compressed(_FP8_WEIGHTS, activations={}, ignore=["re:" + pattern]))
    started = time.perf_counter()
    for layer in range(100):
        rules.for_linear(f"model.layers.{layer}.{'a' * 200}")
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": 5},
        {"quant_method": "fp8", "weight_block_size": ["x", None]},
        {"quant_method": "fp8", "weight_block_size": [0, 0]},
        {"quant_method": "awq", "bits": -1, "group_size": "many"},
        {"quant_method": "compressed-tensors", "config_groups": []},
        {"quant_method": "compressed-tensors", "config_groups": {"a": 1, "b": {"weights": None}}},
        {"quant_method": "gptq", "dynamic": {"-:[": {}, "": None}},
        {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {"a": 3}},
        {"quantization": {"quant_algo": None}, "producer": {"name": "modelopt"}},
        {"producer": None, "quantization": {}},
    ],
)
def test_nonsense_is_survived(config: dict[str, Any]) -> None:
    rules = quantization_rules(config)
    assert linear_bytes(rules.for_linear(QKV), inputs=64, outputs=(64,), element_bytes=2) > 0


@pytest.mark.parametrize(
    ("fmt", "expected"),
    [
        (PLAIN, 256 * 512 * 2),
        (WeightFormat(storage=Storage.BYTE_TENSOR, static_input_scale=True), 256 * 512 + 2 * 4),
        (WeightFormat(storage=Storage.BYTE_CHANNEL), 256 * 512 + 512 * 4),
        (WeightFormat(storage=Storage.BYTE_BLOCK), 256 * 512 + 4 * 2 * 4),
        (WeightFormat(storage=Storage.PACKED_INT, bits=4, group=128), 256 * 256 + 2 * 512 * 2),
        (WeightFormat(storage=Storage.PACKED_INT, bits=4, group=128, zero_points=True), 65536 + 2048 + 2 * 512 // 2),
        (WeightFormat(storage=Storage.PACKED_INT, bits=4, group_index=True), 65536 + 512 * 2 + 256 * 4),
        (WeightFormat(storage=Storage.NVFP4, group=16), 65536 + 16 * 512 + 8),
        (WeightFormat(storage=Storage.MXFP4), 65536 + 8 * 512),
        (WeightFormat(storage=Storage.MXFP8), 131072 + 8 * 512),
        (WeightFormat(storage=Storage.NF4), 65536),
        (WeightFormat(storage=Storage.INT8_ROW), 131072),
    ],
    ids=lambda value: str(getattr(value, "storage", "")),
)
def test_bytes_of_one_matrix(fmt: WeightFormat, expected: int) -> None:
    assert linear_bytes(fmt, inputs=256, outputs=(512,), element_bytes=2) == expected


def test_mxfp4_experts_are_padded() -> None:
    fmt = WeightFormat(storage=Storage.MXFP4)
    shape = {"count": 1, "hidden": 2880, "intermediate": 360, "gated": True, "bias": False, "element_bytes": 2}
    hopper = experts_bytes(fmt, **shape, padding=ExpertPadding())
    marlin = experts_bytes(fmt, **shape, padding=ExpertPadding(hidden=256, intermediate=128))
    assert hopper == 3 * 2880 * 384 * 17 // 32
    assert marlin == 3 * 3072 * 384 * 17 // 32


def test_block_scales_follow_a_share_that_is_no_whole_block() -> None:
    # Qwen3-235B-A22B-FP8 at TP 8: 192 columns, scaled in blocks of 64.
    fmt = WeightFormat(storage=Storage.BYTE_BLOCK)
    got = experts_bytes(
        fmt, count=1, hidden=4096, intermediate=192, gated=True, bias=False, element_bytes=2, padding=ExpertPadding()
    )
    assert got == 3 * 4096 * 192 + 3 * (4096 // 64) * (192 // 64) * 4


@pytest.mark.parametrize(
    ("method", "expected"), [(None, 2), ("awq", 0.53125), ("gptq_marlin", 0.53125), ("mxfp4", 0.5625), ("fp8", 1)]
)
def test_a_name_alone_gives_a_coarse_size(method: str | None, expected: float) -> None:
    assert bytes_per_weight(method, 2) == expected


@pytest.mark.parametrize(
    "name",
    ["layers.3.mlp", "model.layers.3.mlp", "language_model.model.layers.3.mlp", "backbone.layers.3.mlp"],
)
def test_wrappers_do_not_change_a_layer(name: str) -> None:
    assert canonical(name) == "layers.3.mlp"
