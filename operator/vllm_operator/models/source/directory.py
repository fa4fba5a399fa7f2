"""Facts from a local directory: `config.json`, the headers of its safetensors files, or a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vllm_operator.models.checkpoint import (
    LENGTH_PREFIX_BYTES,
    CheckpointError,
    checkpoint_of,
    checkpoint_of_index,
    header_length,
    safetensors_tensors,
)
from vllm_operator.models.errors import ModelNotFound, ModelUnreadable
from vllm_operator.models.facts import CheckpointFacts, FactsBasis, ModelSource
from vllm_operator.models.gguf import TruncatedHeader, gguf_checkpoint, gguf_config, read_gguf_header
from vllm_operator.models.source.files import (
    CONFIG,
    INDEX,
    LM_HEAD_MARKER,
    MAX_CONFIG_BYTES,
    MAX_INDEX_BYTES,
    QUANTIZATION,
    SENTENCE_MODULES,
    ModelFiles,
    parse_object,
)

if TYPE_CHECKING:
    from vllm_operator.models.facts import ModelFacts, TensorFacts

_GGUF_READS = (1 << 20, 16 << 20, 64 << 20)


def load_directory(path: Path | str) -> ModelFacts:
    """The facts of a model in a local directory.

    Raises `ModelNotFound` when there is no such directory and `ModelUnreadable` when it holds no model.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise ModelNotFound(f"{directory}: no such directory; give the one that holds {CONFIG}")
    return _read(directory).facts()


def _read(directory: Path) -> ModelFiles:
    uri = str(directory)
    source = ModelSource(uri=uri)
    try:
        if not (directory / CONFIG).is_file():
            return _read_gguf(directory, source)
        config = parse_object(_content(directory / CONFIG, MAX_CONFIG_BYTES), name=CONFIG, uri=uri)
        quantization = directory / QUANTIZATION
        return ModelFiles(
            config=config,
            source=source,
            hf_quant_config=parse_object(_content(quantization, MAX_CONFIG_BYTES), name=QUANTIZATION, uri=uri)
            if quantization.is_file()
            else None,
            checkpoint=_checkpoint(directory, uri),
            embeds=(directory / SENTENCE_MODULES).is_file(),
        )
    except CheckpointError as error:
        raise ModelUnreadable(f"{uri}: {error}; replace the damaged file") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelUnreadable(f"{uri}: {error.filename or directory} cannot be read: {reason}") from error


def _content(path: Path, limit: int) -> bytes:
    size = path.stat().st_size
    if size > limit:
        raise ModelUnreadable(f"{path}: {size} bytes is too large for this file; up to {limit} bytes are read")
    return path.read_bytes()


def _checkpoint(directory: Path, uri: str) -> CheckpointFacts | None:
    weights = _weight_files(directory)
    if weights:
        tensors: list[TensorFacts] = []
        for path in weights:
            tensors.extend(_tensors(path))
        return checkpoint_of(tensors, total_bytes=None)
    index = directory / INDEX
    if index.is_file():
        return checkpoint_of_index(parse_object(_content(index, MAX_INDEX_BYTES), name=INDEX, uri=uri))
    if (directory / LM_HEAD_MARKER).exists():
        return CheckpointFacts(has_lm_head=True, basis=FactsBasis.CONFIG)
    return None


def _weight_files(directory: Path) -> list[Path]:
    """The safetensors files that vLLM loads: `consolidated*` repeats the others in Mistral's own format."""
    every = sorted(path for path in directory.glob("*.safetensors") if path.is_file())
    return [path for path in every if not path.name.startswith("consolidated")] or every


def _tensors(path: Path) -> tuple[TensorFacts, ...]:
    with path.open("rb") as file:
        length = header_length(file.read(LENGTH_PREFIX_BYTES))
        header = file.read(length)
    if len(header) < length:
        raise CheckpointError(f"{path.name} ends inside its header")
    return safetensors_tensors(header)


def _read_gguf(directory: Path, source: ModelSource) -> ModelFiles:
    files = sorted(directory.glob("*.gguf"))
    if not files:
        raise ModelUnreadable(
            f"{directory}: neither {CONFIG} nor a GGUF file is there; copy the model's {CONFIG} to it"
        )
    for limit in _GGUF_READS:
        with files[0].open("rb") as file:
            content = file.read(limit)
        try:
            header = read_gguf_header(content)
        except TruncatedHeader:
            continue
        return ModelFiles(config=gguf_config(header), source=source, checkpoint=gguf_checkpoint(header))
    raise CheckpointError(
        f"{files[0].name} ends inside its header, or the header is longer than {_GGUF_READS[-1]} bytes"
    )
