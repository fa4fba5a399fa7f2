"""Weight files without their weights: the headers of safetensors and GGUF files, and safetensors indexes.

Everything here takes bytes or parsed JSON and gives `CheckpointFacts`; who fetched them is `models.source`'s affair.
A file that is not what it should be raises `CheckpointError`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from vllm_operator.models.facts import CheckpointFacts, FactsBasis, TensorFacts

if TYPE_CHECKING:
    from collections.abc import Iterable

LENGTH_PREFIX_BYTES = 8
"""A safetensors file starts with the length of its header, little-endian."""
MAX_HEADER_BYTES = 100_000_000
"""The safetensors library refuses longer headers."""
MAX_TENSORS = 1_000_000

# Bits of one element: github.com/huggingface/safetensors, safetensors/src/tensor.rs:Dtype.
_DTYPE_BITS = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
_HEAD_NAMES = ("lm_head.weight", "lm_head.qweight", "lm_head.weight_packed", "output.weight", "embed_out.weight")


class CheckpointError(ValueError):
    """A weight file's header cannot be read; the message says why."""


def header_length(prefix: bytes) -> int:
    """Length of a safetensors header from the file's first eight bytes."""
    if len(prefix) < LENGTH_PREFIX_BYTES:
        raise CheckpointError(f"a safetensors file starts with 8 bytes of length, this one has {len(prefix)} bytes")
    length: int = struct.unpack("<Q", prefix[:LENGTH_PREFIX_BYTES])[0]
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise CheckpointError(f"the safetensors header claims {length} bytes; up to {MAX_HEADER_BYTES} are valid")
    return length


def safetensors_tensors(header: bytes) -> tuple[TensorFacts, ...]:
    """The tensors of one safetensors header (without its length prefix)."""
    try:
        parsed = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the safetensors header is not JSON: {error}") from error
    if not isinstance(parsed, Mapping):
        raise CheckpointError("the safetensors header is not a JSON object")
    if len(parsed) > MAX_TENSORS:
        raise CheckpointError(f"the safetensors header lists {len(parsed)} tensors; up to {MAX_TENSORS} are read")
    return tuple(_tensor(name, entry) for name, entry in parsed.items() if name != "__metadata__")


def _tensor(name: str, entry: object) -> TensorFacts:
    if not isinstance(entry, Mapping):
        raise CheckpointError(f"tensor {name!r} is not described by an object")
    return tensor_facts(name, entry.get("dtype"), entry.get("shape"), entry.get("data_offsets"))


def tensor_facts(name: str, dtype: object, shape: object, offsets: object) -> TensorFacts:
    """One tensor from the fields of its header, checked."""
    if not isinstance(dtype, str) or not isinstance(shape, (list, tuple)):
        raise CheckpointError(f"tensor {name!r} has no dtype or shape")
    dims = tuple(shape)
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in dims):
        raise CheckpointError(f"tensor {name!r} has a shape that is not a list of sizes")
    stored = _stored_bytes(dtype, dims, offsets)
    if stored is None:
        raise CheckpointError(f"tensor {name!r} has the unknown dtype {dtype!r} and no valid offsets")
    return TensorFacts(name=name, dtype=dtype, shape=dims, stored_bytes=stored)


def _stored_bytes(dtype: str, shape: tuple[int, ...], offsets: object) -> int | None:
    if isinstance(offsets, (list, tuple)) and len(offsets) == 2:
        start, end = offsets
        if isinstance(start, int) and isinstance(end, int) and 0 <= start <= end:
            return end - start
    bits = _DTYPE_BITS.get(dtype)
    return None if bits is None else -(-prod(shape) * bits // 8)


def checkpoint_of(tensors: Iterable[TensorFacts], *, total_bytes: int | None = None) -> CheckpointFacts:
    """The facts of a checkpoint whose every header was read."""
    every = tuple(tensors)
    return CheckpointFacts(
        total_bytes=total_bytes if total_bytes is not None else sum(tensor.stored_bytes for tensor in every),
        tensors=every,
        has_lm_head=ships_output_head(tensor.name for tensor in every),
        basis=FactsBasis.SAFETENSORS_HEADERS,
    )


def checkpoint_of_index(index: Mapping[str, Any], *, total_bytes: int | None = None) -> CheckpointFacts:
    """The facts that `model.safetensors.index.json` alone gives: names and the total, no shapes."""
    names = index.get("weight_map")
    metadata = index.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, Mapping) else None
    if not isinstance(total, int) or isinstance(total, bool) or total < 0:
        total = None
    return CheckpointFacts(
        total_bytes=total_bytes if total_bytes is not None else total,
        has_lm_head=ships_output_head(str(name) for name in names) if isinstance(names, Mapping) and names else None,
        basis=FactsBasis.CHECKPOINT_SIZE,
    )


def index_files(index: Mapping[str, Any]) -> tuple[str, ...]:
    """The weight files that an index names, sorted; names that leave the directory are refused."""
    names = index.get("weight_map")
    if not isinstance(names, Mapping):
        raise CheckpointError("the index has no weight_map")
    files = sorted({name for name in names.values() if isinstance(name, str)})
    for name in files:
        if "/" in name or "\\" in name or name.startswith("."):
            raise CheckpointError(f"the index names a file outside the model's directory: {name!r}")
    return tuple(files)


def ships_output_head(names: Iterable[str]) -> bool:
    """Whether a checkpoint has an output head of its own."""
    return any(name == head or name.endswith("." + head) for name in names for head in _HEAD_NAMES)
