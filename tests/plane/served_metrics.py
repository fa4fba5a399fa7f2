"""A model server's `/metrics` on this machine, for pods whose address is this machine's own."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from vllm_operator.render.workload import ENGINE_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

from contextlib import contextmanager

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
WAIT_SECONDS = 30.0
EXPOSITION = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="model"}} 0.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0",model_name="model"}} 0.0
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{{_block_size_resolved="True",block_size="16",cache_dtype="auto",calculate_kv_scales="False",\
enable_prefix_caching="True",engine="0",gpu_memory_utilization="0.9",kv_cache_max_concurrency="{concurrency}",\
kv_cache_memory_bytes="None",kv_cache_size_tokens="{tokens}",mamba_block_size="None",mamba_cache_dtype="auto",\
num_gpu_blocks="{blocks}",num_gpu_blocks_override="None",prefix_caching_hash_algo="sha256",\
sliding_window="None",swap_space="4"}} 1.0
"""
"""As vLLM 0.33 prints it, cut to a few series."""


@dataclass
class MetricsServer:
    """What the server of every such pod answers, and how often it was asked."""

    address: str
    body: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    def states(self, tokens: int, concurrency: float) -> None:
        """Have a server with that KV cache."""
        self.status, self.headers = 200, {"Content-Type": PLAIN}
        self.body = EXPOSITION.format(tokens=tokens, concurrency=concurrency, blocks=tokens // 16)


def own_address() -> str:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
    return address


@contextmanager
def metrics_served() -> Iterator[MetricsServer]:
    """Serve metrics where the operator expects an engine; waits while another run on this machine does."""
    served = MetricsServer(own_address())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked += 1
            self.send_response(served.status)
            for name, value in served.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(served.body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with _bound(served.address, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def _bound(address: str, handler: type[BaseHTTPRequestHandler]) -> AbstractContextManager[ThreadingHTTPServer]:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return ThreadingHTTPServer((address, ENGINE_PORT), handler)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
