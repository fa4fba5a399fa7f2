"""Facts from the Hugging Face Hub, or a mirror that speaks its API: configs and headers, never weights.

Every call runs in a thread of this source's own pool, with a timeout on each request and on the whole. Tokens are
passed to the client and kept nowhere: not in messages, logs, reprs or cache keys.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented there, re-exported without `as`
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from vllm_operator import __version__
from vllm_operator.models.checkpoint import (
    LENGTH_PREFIX_BYTES,
    CheckpointError,
    checkpoint_of,
    checkpoint_of_index,
    header_length,
    index_files,
    safetensors_tensors,
)
from vllm_operator.models.errors import ModelGated, ModelNotFound, ModelUnreadable, SourceOffline
from vllm_operator.models.facts import CheckpointFacts, FactsBasis, ModelSource
from vllm_operator.models.gguf import TruncatedHeader, gguf_checkpoint, gguf_config, read_gguf_header
from vllm_operator.models.source.files import (
    CONFIG,
    INDEX,
    MAX_CONFIG_BYTES,
    MAX_INDEX_BYTES,
    QUANTIZATION,
    SENTENCE_MODULES,
    ModelFiles,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.models.errors import ModelSourceError
    from vllm_operator.models.facts import ModelFacts, TensorFacts

# 97 % of safetensors headers are shorter (huggingface_hub.HfApi.parse_safetensors_file_metadata).
_HEADER_GUESS_BYTES = 100_000
_MAX_HEADER_FILES = 400
_GGUF_READS = (1 << 20, 16 << 20, 64 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repo:
    """One model at one commit, and how to ask for it."""

    uri: str
    repo_id: str
    commit: str
    sizes: Mapping[str, int | None]
    token: str | None = field(repr=False)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.sizes)


class HubSource:
    """Reads models' facts from a Hub."""

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        request_timeout_seconds: float = 10.0,
        total_timeout_seconds: float = 60.0,
        threads: int = 4,
    ) -> None:
        self._endpoint = endpoint
        self._request_timeout = request_timeout_seconds
        self._total_timeout = total_timeout_seconds
        self._loads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="hub-load")
        self._headers = ThreadPoolExecutor(max_workers=2 * threads, thread_name_prefix="hub-header")

    async def load(self, uri: str, *, revision: str | None = None, token: str | None = None) -> ModelFacts:
        """The facts of `org/name` (or `hf://org/name`) at the commit that `revision` names now.

        Raises `ModelNotFound`, `ModelGated`, `SourceOffline` or `ModelUnreadable`.
        """
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._loads, self._load, uri, revision, token)
        try:
            async with asyncio.timeout(self._total_timeout):
                return await work
        except TimeoutError as error:
            raise SourceOffline(
                f"{uri}: the Hub took longer than {self._total_timeout:.0f} s; the next attempt follows by itself, "
                "or give the config in spec.model.configRef"
            ) from error

    def close(self) -> None:
        """Stops the threads; requests under way end with their timeout."""
        self._loads.shutdown(wait=False, cancel_futures=True)
        self._headers.shutdown(wait=False, cancel_futures=True)

    def _load(self, uri: str, revision: str | None, token: str | None) -> ModelFacts:
        try:
            repo = self._resolve(uri, revision, token)
            return self._files(repo).facts()
        except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError) as error:
            raise _typed(error, uri=uri, revision=revision, has_token=token is not None) from error
        except CheckpointError as error:
            raise ModelUnreadable(
                f"{uri}: {error}; the files on the Hub are damaged or not in a known format"
            ) from error

    def _resolve(self, uri: str, revision: str | None, token: str | None) -> _Repo:
        repo_id = uri.removeprefix("hf://").strip("/")
        api = HfApi(
            endpoint=self._endpoint,
            token=token or False,
            library_name="vllm-operator",
            library_version=__version__,
        )
        info = api.model_info(repo_id, revision=revision, files_metadata=True, timeout=self._request_timeout)
        if not info.sha:
            raise ModelUnreadable(f"{uri}: the Hub names no commit for revision {revision or 'main'}")
        sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or ()}
        return _Repo(uri=uri, repo_id=repo_id, commit=info.sha, sizes=sizes, token=token)

    def _files(self, repo: _Repo) -> ModelFiles:
        source = ModelSource(uri=repo.uri, revision=repo.commit)
        if CONFIG not in repo.names:
            return self._gguf(repo, source)
        quantization = None
        if QUANTIZATION in repo.names:
            quantization = self._object(repo, QUANTIZATION, MAX_CONFIG_BYTES)
        return ModelFiles(
            config=self._object(repo, CONFIG, MAX_CONFIG_BYTES),
            source=source,
            hf_quant_config=quantization,
            checkpoint=self._checkpoint(repo),
            embeds=SENTENCE_MODULES in repo.names,
        )

    def _object(self, repo: _Repo, name: str, limit: int) -> dict[str, Any]:
        size = repo.sizes.get(name)
        if size is not None and size > limit:
            raise ModelUnreadable(f"{repo.uri}: {name} has {size} bytes; up to {limit} are read")
        return parse_object(self._fetch(repo, name, limit=limit), name=name, uri=repo.uri)

    def _checkpoint(self, repo: _Repo) -> CheckpointFacts | None:
        index = self._object(repo, INDEX, MAX_INDEX_BYTES) if INDEX in repo.names else None
        weights = _weight_files(repo.names) if index is None else index_files(index)
        if not weights:
            return _other_weights(repo.sizes)
        known = [repo.sizes.get(name) for name in weights]
        total = sum(size for size in known if size is not None) if None not in known else None
        if len(weights) > _MAX_HEADER_FILES:
            return checkpoint_of_index(index, total_bytes=total) if index else CheckpointFacts(total_bytes=total)
        tensors: list[TensorFacts] = []
        for found in self._headers.map(lambda name: self._tensors(repo, name), weights):
            tensors.extend(found)
        return checkpoint_of(tensors, total_bytes=total)

    def _tensors(self, repo: _Repo, name: str) -> tuple[TensorFacts, ...]:
        start = self._fetch(repo, name, limit=_HEADER_GUESS_BYTES, first=0)
        length = header_length(start[:LENGTH_PREFIX_BYTES])
        header = start[LENGTH_PREFIX_BYTES : LENGTH_PREFIX_BYTES + length]
        if len(header) < length:
            header = self._fetch(repo, name, limit=length, first=LENGTH_PREFIX_BYTES)
        if len(header) < length:
            raise CheckpointError(f"{name} ends inside its header")
        return safetensors_tensors(header)

    def _gguf(self, repo: _Repo, source: ModelSource) -> ModelFiles:
        files = sorted(name for name in repo.names if name.endswith(".gguf") and "/" not in name)
        if not files:
            raise ModelUnreadable(
                f"{repo.uri} has neither {CONFIG} nor a GGUF file; check spec.model.uri, or give the config in "
                "spec.model.configRef"
            )
        for limit in _GGUF_READS:
            try:
                header = read_gguf_header(self._fetch(repo, files[0], limit=limit, first=0))
            except TruncatedHeader:
                continue
            return ModelFiles(
                config=gguf_config(header),
                source=source,
                checkpoint=gguf_checkpoint(header, total_bytes=repo.sizes.get(files[0])),
            )
        raise CheckpointError(f"the header of {files[0]} is longer than {_GGUF_READS[-1]} bytes")

    def _fetch(self, repo: _Repo, name: str, *, limit: int, first: int | None = None) -> bytes:
        """Up to `limit` bytes of a file, from byte `first` on; a whole file (`first` unset) must not be longer."""
        url = hf_hub_url(repo.repo_id, name, revision=repo.commit, endpoint=self._endpoint)
        headers = build_hf_headers(token=repo.token or False, library_name="vllm-operator", library_version=__version__)
        if first is not None:
            headers["Range"] = f"bytes={first}-{first + limit - 1}"
        content = bytearray()
        with get_session().stream("GET", url, headers=headers, timeout=self._request_timeout) as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            # A server that ignores ranges sends the whole file: skip what was not asked for.
            skip = first if first and response.status_code == httpx2.codes.OK else 0
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) - skip > limit:
                    break
        content = content[skip:]
        if first is None and len(content) > limit:
            raise ModelUnreadable(f"{repo.uri}: {name} is longer than the {limit} bytes that are read")
        return bytes(content[:limit])


def _weight_files(names: frozenset[str]) -> tuple[str, ...]:
    every = sorted(name for name in names if name.endswith(".safetensors") and "/" not in name)
    return tuple(name for name in every if not name.startswith("consolidated")) or tuple(every)


def _other_weights(sizes: Mapping[str, int | None]) -> CheckpointFacts | None:
    """PyTorch's own format has no header to read; the sizes are all that is known."""
    found = [size for name, size in sizes.items() if name.endswith((".bin", ".pt", ".pth")) and "/" not in name]
    known = [size for size in found if size is not None]
    if not known or len(known) < len(found):
        return None
    return CheckpointFacts(total_bytes=sum(known), basis=FactsBasis.CHECKPOINT_SIZE)


def _typed(error: Exception, *, uri: str, revision: str | None, has_token: bool) -> ModelSourceError:
    """The error of this package that says what happened and what to do; never the server's own text."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    match error:
        case GatedRepoError():
            return _gated(uri, has_token=has_token)
        case RevisionNotFoundError():
            return ModelNotFound(f"{uri} has no revision {revision!r}; set spec.model.revision to one that exists")
        case RemoteEntryNotFoundError():
            return ModelUnreadable(f"{uri}: a file that the Hub lists is not there; try again later")
        case RepositoryNotFoundError() if status == 401 and has_token:
            return ModelGated(f"{uri}: the Hub does not accept the token of spec.model.tokenSecretRef; renew it")
        case RepositoryNotFoundError():
            return ModelNotFound(
                f"{uri} is not on the Hub, or is private: check spec.model.uri, and for a private model set "
                "spec.model.tokenSecretRef"
            )
        case HFValidationError():
            return ModelNotFound(f"{uri} is not a valid Hub id; spec.model.uri takes the form org/name")
        case OfflineModeIsEnabled():
            return SourceOffline(
                f"{uri}: the operator runs with HF_HUB_OFFLINE=1; give the config in spec.model.configRef"
            )
    if status == 401:
        return ModelGated(f"{uri}: the Hub does not accept the token of spec.model.tokenSecretRef; renew it")
    if status == 403:
        return _gated(uri, has_token=has_token)
    if status is not None and status not in (408, 429) and status < 500:
        return ModelUnreadable(f"{uri}: the Hub answered with HTTP {status}; check spec.model.uri and HF_ENDPOINT")
    what = f"answered with HTTP {status}" if status is not None else f"could not be reached ({type(error).__name__})"
    return SourceOffline(
        f"{uri}: the Hub {what}; the next attempt follows by itself, or give the config in spec.model.configRef"
    )


def _gated(uri: str, *, has_token: bool) -> ModelGated:
    if has_token:
        return ModelGated(
            f"{uri} is gated and the token of spec.model.tokenSecretRef has no access: ask for access on the model's "
            "page with that account"
        )
    return ModelGated(f"{uri} is gated: set spec.model.tokenSecretRef to a Secret with a token that has access")


__all__ = ["HubSource"]
