"""The real Hub client against a small Hub on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.hub.server import COMMIT, HubModel, HubServer, gguf_file, safetensors_file

from vllm_operator.models.errors import ModelGated, ModelNotFound, ModelSourceError, ModelUnreadable, SourceOffline
from vllm_operator.models.facts import FactsBasis
from vllm_operator.models.source import HubSource

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "hf_" + "secret-of-this-test"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 640,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
TENSORS = {"model.embed_tokens.weight": ("BF16", [640, 64]), "lm_head.weight": ("BF16", [640, 64])}


def files(config: Any = CONFIG, **more: bytes) -> dict[str, bytes]:
    content = config if isinstance(config, bytes) else json.dumps(config).encode()
    return {"config.json": content, **{name.replace("__", "."): body for name, body in more.items()}}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def source(hub: HubServer) -> Iterator[HubSource]:
    made = HubSource(endpoint=hub.endpoint, request_timeout_seconds=5, total_timeout_seconds=10)
    yield made
    made.close()


async def test_a_model_is_read_at_the_commit_that_its_branch_names(hub: HubServer, source: HubSource) -> None:
    hub.models["org/model"] = HubModel(files=files(model__safetensors=safetensors_file(TENSORS)))
    facts = await source.load("hf://org/model", revision="main")
    assert facts.source is not None
    assert facts.source.revision == COMMIT
    assert (facts.num_layers, facts.vocab_size) == (2, 640)
    assert facts.checkpoint is not None
    assert [part.name for part in facts.checkpoint.tensors] == list(TENSORS)
    assert (facts.checkpoint.has_lm_head, facts.checkpoint.basis) == (True, FactsBasis.SAFETENSORS_HEADERS)
    resolved = {request.path for request in hub.requests if "/resolve/" in request.path}
    assert all(f"/resolve/{COMMIT}/" in path for path in resolved)


async def test_weights_are_never_read_only_headers(hub: HubServer, source: HubSource) -> None:
    large = safetensors_file({"model.embed_tokens.weight": ("BF16", [64_000, 64])})
    hub.models["org/model"] = HubModel(files=files(model__safetensors=large))
    facts = await source.load("org/model")
    assert facts.checkpoint is not None
    assert facts.checkpoint.total_bytes == len(large)
    ranges = [request.byte_range for request in hub.requests if request.path.startswith("/storage/")]
    assert ranges == ["bytes=0-99999"]


async def test_a_long_header_takes_a_second_request(hub: HubServer, source: HubSource) -> None:
    hub.models["org/model"] = HubModel(files=files(model__safetensors=safetensors_file(TENSORS, padding=150_000)))
    facts = await source.load("org/model")
    assert facts.checkpoint is not None
    assert len(facts.checkpoint.tensors) == 2
    assert sum(request.path.startswith("/storage/") for request in hub.requests) == 2


@pytest.mark.parametrize("padding", [0, 150_000], ids=["short header", "long header"])
async def test_mirrors_without_ranges_work(hub: HubServer, source: HubSource, padding: int) -> None:
    hub.supports_ranges = False
    hub.models["org/model"] = HubModel(files=files(model__safetensors=safetensors_file(TENSORS, padding=padding)))
    facts = await source.load("org/model")
    assert facts.checkpoint is not None
    assert len(facts.checkpoint.tensors) == 2


async def test_a_sharded_model_is_the_sum_of_the_files_in_its_index(hub: HubServer, source: HubSource) -> None:
    index = {"metadata": {}, "weight_map": {"a.weight": "one.safetensors", "b.weight": "two.safetensors"}}
    shards = {
        "one.safetensors": safetensors_file({"a.weight": ("BF16", [2, 2])}),
        "two.safetensors": safetensors_file({"b.weight": ("F32", [3])}),
        "consolidated.safetensors": safetensors_file({"c.weight": ("F32", [100])}),
        "model.safetensors.index.json": json.dumps(index).encode(),
    }
    hub.models["org/model"] = HubModel(files={**files(), **shards})
    facts = await source.load("org/model")
    assert facts.checkpoint is not None
    assert [part.name for part in facts.checkpoint.tensors] == ["a.weight", "b.weight"]
    assert facts.checkpoint.total_bytes == len(shards["one.safetensors"]) + len(shards["two.safetensors"])


async def test_a_model_of_pytorch_files_has_only_a_size(hub: HubServer, source: HubSource) -> None:
    hub.models["org/model"] = HubModel(files={**files(), "pytorch_model.bin": bytes(1000)})
    facts = await source.load("org/model")
    assert facts.checkpoint is not None
    assert (facts.checkpoint.total_bytes, facts.checkpoint.basis) == (1000, FactsBasis.CHECKPOINT_SIZE)


async def test_a_gguf_repository_is_read_from_its_header(hub: HubServer, source: HubSource) -> None:
    metadata: dict[str, int | str] = {
        "general.architecture": "llama",
        "llama.block_count": 3,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 128,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.context_length": 2048,
    }
    content = gguf_file(metadata, {"token_embd.weight": (1, [64, 100])}, tokens=100)
    hub.models["org/model-GGUF"] = HubModel(files={"model-Q4_K_M.gguf": content})
    facts = await source.load("org/model-GGUF")
    assert (facts.num_layers, facts.vocab_size) == (3, 100)
    assert facts.checkpoint is not None
    assert facts.checkpoint.basis is FactsBasis.GGUF_HEADER


async def test_modelopts_file_beside_the_config_is_read(hub: HubServer, source: HubSource) -> None:
    quantization = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": []}}
    hub.models["org/model"] = HubModel(files={**files(), "hf_quant_config.json": json.dumps(quantization).encode()})
    facts = await source.load("org/model")
    assert facts.hf_quant_config == quantization


async def test_a_token_opens_a_gated_model_and_stays_with_the_hub(hub: HubServer, source: HubSource) -> None:
    hub.models["org/gated"] = HubModel(
        files=files(model__safetensors=safetensors_file(TENSORS)), gated=True, tokens=(TOKEN,)
    )
    await source.load("org/gated", token=TOKEN)
    to_storage = [request for request in hub.requests if request.port == hub.storage_port]
    assert to_storage
    assert all(request.authorization is None for request in to_storage)


async def test_without_a_token_in_the_spec_none_is_sent(
    hub: HubServer, source: HubSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.models["org/model"] = HubModel(files=files())
    await source.load("org/model")
    assert {request.authorization for request in hub.requests} == {None}


@pytest.mark.parametrize(
    ("uri", "revision", "token", "error", "message"),
    [
        ("org/gated", None, None, ModelGated, "set spec.model.tokenSecretRef"),
        ("org/gated", None, TOKEN, ModelGated, "ask for access"),
        ("org/gated", None, "expired", ModelGated, "renew it"),
        ("org/missing", None, None, ModelNotFound, "check spec.model.uri"),
        ("org/missing", None, TOKEN, ModelNotFound, "check spec.model.uri"),
        ("org/model", "v9", None, ModelNotFound, "no revision 'v9'"),
        ("a/b/c", None, None, ModelNotFound, "org/name"),
        ("org/empty", None, None, ModelUnreadable, "neither config.json nor a GGUF"),
        ("org/broken", None, None, ModelUnreadable, "not valid JSON"),
        ("org/list", None, None, ModelUnreadable, "not an object"),
        ("org/shapeless", None, None, ModelUnreadable, "cannot be planned"),
        ("org/damaged", None, None, ModelUnreadable, "damaged"),
        ("org/cut", None, None, ModelUnreadable, "ends inside its header"),
        ("org/vanished", None, None, ModelUnreadable, "is not there"),
        ("org/huge", None, None, ModelUnreadable, "up to 10000000 are read"),
        ("org/liar", None, None, ModelUnreadable, "longer than the 10000000 bytes"),
        ("org/teapot", None, None, ModelUnreadable, "HTTP 418"),
        ("org/busy", None, None, SourceOffline, "HTTP 429"),
        ("org/down", None, None, SourceOffline, "HTTP 503"),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else "",
)
async def test_each_failure_has_its_type_and_a_next_step(
    hub: HubServer,
    source: HubSource,
    uri: str,
    revision: str | None,
    token: str | None,
    error: type[ModelSourceError],
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    too_long = b'{"a": "' + b"x" * 10_000_001 + b'"}'
    hub.models.update(
        {
            "org/model": HubModel(files=files()),
            "org/gated": HubModel(files=files(), gated=True, tokens=("another",)),
            "org/empty": HubModel(files={"README.md": b"hello"}),
            "org/broken": HubModel(files=files(b"{")),
            "org/list": HubModel(files=files(b"[]")),
            "org/shapeless": HubModel(files=files({"architectures": ["LlamaForCausalLM"]})),
            "org/damaged": HubModel(files=files(model__safetensors=b"\xff" * 64)),
            "org/cut": HubModel(files=files(model__safetensors=safetensors_file(TENSORS)[:40])),
            "org/vanished": HubModel(files={}, listed=("config.json",)),
            "org/huge": HubModel(files=files(), announced_sizes={"config.json": 10**9}),
            "org/liar": HubModel(files=files(too_long), announced_sizes={"config.json": 5}),
            "org/teapot": HubModel(files=files(), failures=[418]),
            "org/busy": HubModel(files=files(), failures=[429]),
            "org/down": HubModel(files=files(), failures=[503]),
        }
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(error, match=message) as raised:
        await source.load(uri, revision=revision, token=token)
    assert type(raised.value) is error
    assert uri in str(raised.value)
    shown = [repr(raised.value), str(raised.value.__cause__), repr(raised.value.__cause__), caplog.text]
    assert TOKEN not in "".join(shown)


async def test_a_hub_that_nobody_runs_is_offline() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    source = HubSource(endpoint=f"http://127.0.0.1:{port}", request_timeout_seconds=2)
    try:
        with pytest.raises(SourceOffline, match="could not be reached"):
            await source.load("org/model")
    finally:
        source.close()


async def test_a_slow_hub_is_offline_after_the_request_timeout(hub: HubServer) -> None:
    hub.models["org/slow"] = HubModel(files=files(), stalled=threading.Event())
    source = HubSource(endpoint=hub.endpoint, request_timeout_seconds=0.2, total_timeout_seconds=10)
    try:
        with pytest.raises(SourceOffline, match="could not be reached"):
            await source.load("org/slow")
    finally:
        source.close()


async def test_a_load_ends_with_its_own_deadline(hub: HubServer) -> None:
    hub.models["org/slow"] = HubModel(files=files(), stalled=threading.Event())
    source = HubSource(endpoint=hub.endpoint, request_timeout_seconds=5, total_timeout_seconds=0.2)
    try:
        with pytest.raises(SourceOffline, match="took longer"):
            await source.load("org/slow")
    finally:
        source.close()


async def test_models_load_side_by_side(hub: HubServer, source: HubSource) -> None:
    for index in range(6):
        hub.models[f"org/model-{index}"] = HubModel(files=files(model__safetensors=safetensors_file(TENSORS)))
    loaded = await asyncio.gather(*(source.load(f"org/model-{index}") for index in range(6)))
    assert [facts.source.uri for facts in loaded if facts.source] == [f"org/model-{index}" for index in range(6)]
