"""How many bytes one weight matrix takes in each storage format, as vLLM's `create_weights` allocates it.

Sources, vLLM 0.33: `model_executor/layers/quantization/{fp8,modelopt,auto_awq,auto_gptq,mxfp4}.py`,
`compressed_tensors/schemes/*`, `fused_moe/oracle/mxfp4.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import gcd

_FP32 = 4
_INT32 = 4
_INT64 = 8


class Storage(StrEnum):
    """The kind of a weight format."""

    PLAIN = "Plain"
    BYTE_TENSOR = "ByteTensor"
    """One byte a weight, one float32 scale for each fused matrix (FP8 per tensor)."""
    BYTE_CHANNEL = "ByteChannel"
    """One byte a weight, one float32 scale for each output (FP8 or INT8 per channel)."""
    BYTE_BLOCK = "ByteBlock"
    """One byte a weight, one scale for each block (DeepSeek's FP8)."""
    PACKED_INT = "PackedInt"
    """Integers of 2 to 8 bits in groups with a 16-bit scale (AWQ, GPTQ, compressed-tensors, AutoRound)."""
    NVFP4 = "NvFp4"
    """Half a byte a weight, one FP8 scale for each 16 weights."""
    MXFP4 = "MxFp4"
    """Half a byte a weight, one 8-bit exponent for each 32 weights."""
    MXFP8 = "MxFp8"
    """One byte a weight, one 8-bit exponent for each 32 weights."""
    NF4 = "Nf4"
    """bitsandbytes, 4 bits."""
    INT8_ROW = "Int8Row"
    """bitsandbytes, 8 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """A storage format with its numbers."""

    storage: Storage = Storage.PLAIN
    bits: int = 16
    group: int = 0
    """Weights that share a scale; 0 = a whole row."""
    block: tuple[int, int] = (128, 128)
    block_scale_bytes: int = _FP32
    static_input_scale: bool = False
    zero_points: bool = False
    group_index: bool = False
    """An int32 index of the group for each input channel (activation order)."""
    shape_note: bool = False
    """compressed-tensors keeps the unpacked shape beside the packed weight."""


PLAIN = WeightFormat()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertPadding:
    """Multiples to which the MXFP4 kernel of a GPU rounds the experts' dimensions."""

    hidden: int = 1
    intermediate: int = 64


def linear_bytes(fmt: WeightFormat, *, inputs: int, outputs: tuple[int, ...], element_bytes: int) -> int:
    """Bytes of one linear layer's weight and scales on one rank, without its bias."""
    out = sum(outputs)
    weights = inputs * out
    match fmt.storage:
        case Storage.PLAIN:
            return weights * element_bytes
        case Storage.BYTE_TENSOR:
            scales = len(outputs) * (2 if fmt.static_input_scale else 1)
            return weights + scales * _FP32
        case Storage.BYTE_CHANNEL:
            return weights + (out + (len(outputs) if fmt.static_input_scale else 0)) * _FP32
        case Storage.BYTE_BLOCK:
            rows, columns = fmt.block
            return weights + _ceil(out, rows) * _ceil(inputs, columns) * fmt.block_scale_bytes
        case Storage.PACKED_INT:
            return _packed_int_bytes(fmt, inputs=inputs, out=out, element_bytes=element_bytes)
        case Storage.NVFP4:
            return weights // 2 + inputs // (fmt.group or 16) * out + 2 * len(outputs) * _FP32
        case Storage.MXFP4:
            return weights // 2 + inputs // 32 * out
        case Storage.MXFP8:
            return weights + inputs // 32 * out
        case Storage.NF4:
            return _ceil(weights, 2)
        case Storage.INT8_ROW:
            return weights


def _packed_int_bytes(fmt: WeightFormat, *, inputs: int, out: int, element_bytes: int) -> int:
    groups = _ceil(inputs, fmt.group) if fmt.group > 0 else 1
    total = inputs * out * fmt.bits // 8 + groups * out * element_bytes
    if fmt.zero_points:
        total += groups * out * fmt.bits // 8
    if fmt.group_index:
        total += inputs * _INT32
    if fmt.shape_note:
        total += 2 * _INT64
    return total


def experts_bytes(
    fmt: WeightFormat,
    *,
    count: int,
    hidden: int,
    intermediate: int,
    gated: bool,
    bias: bool,
    element_bytes: int,
    padding: ExpertPadding,
) -> int:
    """Bytes of `count` routed experts on one rank; `intermediate` is that rank's share."""
    if fmt.storage is Storage.MXFP4:
        hidden = _round_up(hidden, padding.hidden)
        intermediate = _round_up(intermediate, padding.intermediate)
    if fmt.storage is Storage.BYTE_BLOCK and intermediate % fmt.block[0]:
        # Fp8MoEMethod falls back to the largest block that divides the rank's share (Qwen3-235B-FP8 at TP 8: 64).
        side = gcd(intermediate, fmt.block[0])
        fmt = replace(fmt, block=(side, side))
    up = (intermediate, intermediate) if gated else (intermediate,)
    one = _expert_matrix(fmt, inputs=hidden, outputs=up, element_bytes=element_bytes)
    one += _expert_matrix(fmt, inputs=intermediate, outputs=(hidden,), element_bytes=element_bytes)
    if bias:
        one += (sum(up) + hidden) * element_bytes
    return count * one


def _expert_matrix(fmt: WeightFormat, *, inputs: int, outputs: tuple[int, ...], element_bytes: int) -> int:
    """One fused matrix of one expert. Experts scale the fused matrices by themselves and keep sort indices."""
    if fmt.storage is Storage.BYTE_BLOCK:
        rows, columns = fmt.block
        scales = sum(_ceil(out, rows) for out in outputs) * _ceil(inputs, columns)
        return sum(outputs) * inputs + scales * fmt.block_scale_bytes
    total = linear_bytes(fmt, inputs=inputs, outputs=outputs, element_bytes=element_bytes)
    if fmt.storage is Storage.PACKED_INT and fmt.shape_note:
        # CompressedTensorsWNA16MarlinMoEMethod: g_idx and its sort indices, registered with or without act-order.
        total += 2 * inputs * _INT32
    return total


_COARSE_BYTES = (
    # 4 bit and one 16-bit scale with zero point for 128 weights, 8-bit scales for 16 or 32.
    (("awq", "gptq", "w4a16", "auto-round", "bitsandbytes", "int4"), 0.5 + 4 / 128),
    (("fp4", "mxfp4"), 0.5 + 1 / 16),
    (("fp8", "int8", "w8a8", "compressed-tensors", "modelopt"), 1.0),
)


def bytes_per_weight(quantization: str | None, element_bytes: int) -> float:
    """Bytes of one weight where only the method's name is known."""
    for names, size in _COARSE_BYTES:
        if quantization is not None and any(name in quantization for name in names):
            return size
    return float(element_bytes)


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)


def _round_up(value: int, multiple: int) -> int:
    return _ceil(value, multiple) * multiple
