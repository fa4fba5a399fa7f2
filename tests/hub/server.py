"""A small Hub on loopback for the real `huggingface_hub` client: model info, files, ranges, redirects and refusals.

It speaks what the client asks of huggingface.co: `/api/models/ORG/NAME[/revision/REV]` and
`/ORG/NAME/resolve/REV/FILE`, with the headers that the client reads (X-Repo-Commit, ETag, X-Error-Code). Large files
are answered with a redirect to a second origin, as the Hub does with its storage.
"""

from __future__ import annotations

import json
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubModel:
    """One model of the server and how it behaves."""

    files: dict[str, bytes]
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    tokens: tuple[str, ...] = ()
    """Tokens that may read a gated model; others are known accounts without access."""
    failures: list[int] = field(default_factory=list)
    """Statuses of the next answers, before the model answers as it should."""
    stalled: threading.Event | None = None
    """Set: answers wait until the test releases them."""
    announced_sizes: dict[str, int] = field(default_factory=dict)
    listed: tuple[str, ...] = ()
    """Files that the listing names although they are not there."""


@dataclass(frozen=True)
class Request:
    """What the server was asked for."""

    method: str
    path: str
    authorization: str | None
    byte_range: str | None
    port: int


class HubServer:
    """The running server; `requests` is everything it was asked, in order."""

    def __init__(self) -> None:
        self.models: dict[str, HubModel] = {}
        self.requests: list[Request] = []
        self.supports_ranges = True
        self._hub = _Server(self)
        self._storage = _Server(self)

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT would be."""
        return f"http://127.0.0.1:{self._hub.server_port}"

    @property
    def storage(self) -> str:
        """The second origin, to which large files are redirected."""
        return f"http://localhost:{self._storage.server_port}"

    @property
    def storage_port(self) -> int:
        """The port of the second origin."""
        return self._storage.server_port

    def __enter__(self) -> HubServer:
        for server in (self._hub, self._storage):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for model in self.models.values():
            if model.stalled is not None:
                model.stalled.set()
        for server in (self._hub, self._storage):
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: HubServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is not an error of the test."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read `requests` instead."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        hub = self.server.hub
        hub.requests.append(
            Request(
                self.command,
                path,
                self.headers.get("Authorization"),
                self.headers.get("Range"),
                self.server.server_port,
            )
        )
        parts = path.strip("/").split("/")
        if parts[0] == "storage":
            self._file(hub.models["/".join(parts[1:3])], "/".join(parts[3:]))
        elif parts[:2] == ["api", "models"]:
            self._with_model("/".join(parts[2:4]), self._info, parts[5] if len(parts) > 5 else "main")
        elif len(parts) > 4 and parts[2] == "resolve":
            self._with_model("/".join(parts[:2]), self._resolve, parts[3], "/".join(parts[4:]))
        else:
            self._refuse(404, "RepoNotFound")

    def _with_model(self, name: str, action: Any, *arguments: str) -> None:
        model = self.server.hub.models.get(name)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if model is None:
            # The Hub does not tell strangers whether a private model exists.
            self._refuse(404 if token else 401, "RepoNotFound")
            return
        if model.stalled is not None:
            model.stalled.wait(30)
        if model.failures:
            self._refuse(model.failures.pop(0), None)
        elif token == "expired":
            self._refuse(401, None, message="Invalid credentials in Authorization header")
        elif action == self._resolve and model.gated and token not in model.tokens:
            self._refuse(403 if token else 401, "GatedRepo")
        else:
            action(name, model, *arguments)

    def _known_revision(self, model: HubModel, revision: str) -> bool:
        return revision in model.revisions or revision == model.commit

    def _info(self, name: str, model: HubModel, revision: str) -> None:
        if not self._known_revision(model, revision):
            self._refuse(404, "RevisionNotFound")
            return
        siblings = [
            {"rfilename": file, "size": model.announced_sizes.get(file, len(content))}
            for file, content in model.files.items()
        ]
        siblings += [{"rfilename": file, "size": 10} for file in model.listed]
        body = {"id": name, "modelId": name, "sha": model.commit, "private": False, "siblings": siblings, "tags": []}
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, model: HubModel, revision: str, file: str) -> None:
        if not self._known_revision(model, revision):
            self._refuse(404, "RevisionNotFound")
        elif file not in model.files:
            self._refuse(404, "EntryNotFound")
        elif file.endswith((".safetensors", ".gguf")):
            location = f"{self.server.hub.storage}/storage/{name}/{file}"
            self._send(302, b"", {"Location": location, "X-Repo-Commit": model.commit, "ETag": '"large"'})
        else:
            self._file(model, file)

    def _file(self, model: HubModel, file: str) -> None:
        content = model.files[file]
        headers = {"X-Repo-Commit": model.commit, "ETag": f'"{len(content)}"', "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked is None or not self.server.hub.supports_ranges:
            self._send(200, content, headers)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        self._send(206, content[start : end + 1], headers)

    def _refuse(self, status: int, code: str | None, *, message: str = "refused") -> None:
        headers = {"X-Error-Message": message}
        if code is not None:
            headers["X-Error-Code"] = code
        self._send(status, b'{"error":"refused"}', headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def safetensors_file(tensors: dict[str, tuple[str, list[int]]], *, padding: int = 0) -> bytes:
    """A safetensors file of zeros; `padding` makes the header that much longer."""
    sizes = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1, "I32": 4}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "note": "x" * padding}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = sizes[dtype]
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(offset)


def gguf_string(text: str) -> bytes:
    """A string as GGUF stores it."""
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_file(metadata: dict[str, int | str], tensors: dict[str, tuple[int, list[int]]], *, tokens: int = 0) -> bytes:
    """The header of a GGUF file, version 3; `tokens` adds a vocabulary of that many words."""
    entries = len(metadata) + (1 if tokens else 0)
    content = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), entries)
    for name, value in metadata.items():
        content += gguf_string(name)
        if isinstance(value, int):
            content += struct.pack("<II", 4, value)
        else:
            content += struct.pack("<I", 8) + gguf_string(value)
    if tokens:
        content += gguf_string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, tokens)
        content += b"".join(gguf_string(f"token-{index}") for index in range(tokens))
    for name, (kind, shape) in tensors.items():
        content += gguf_string(name) + struct.pack("<I", len(shape))
        content += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, 0)
    return content
