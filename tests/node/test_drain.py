"""A pod that is deleted finishes what it has accepted, and no request is sent to it any more."""

from __future__ import annotations

import json
import queue
import threading
import time
from http.client import HTTPException
from typing import TYPE_CHECKING

import pytest
from tests.node.network import NodeConnection
from tests.node.served import NAMESPACE, is_ready, pods, service_address

if TYPE_CHECKING:
    from tests.node.scene import NodeScene

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("models")]

TOKENS_A_SECOND = 20
"""What the stand-in streams."""
LONG_REQUESTS = 8
LONG_SECONDS = 20
"""Longer than the rendered preStop of 15 s: the last five are streamed while vLLM is shutting down."""


class Requests:
    """Counts answers of the model's Service; a request that was not answered in full is a failure."""

    def __init__(self, scene: NodeScene, name: str) -> None:
        self._pid = scene.plane.pid
        self._address = service_address(scene, name)
        self._threads: list[threading.Thread] = []
        self.accepted_by: queue.Queue[str] = queue.Queue()
        self.finished = 0
        self.failures: list[str] = []

    def start(self, seconds: float) -> None:
        """Send one that streams for so long."""
        thread = threading.Thread(target=self._stream, args=(int(seconds * TOKENS_A_SECOND),), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _stream(self, tokens: int) -> None:
        host, _, port = self._address.partition(":")
        connection = NodeConnection(self._pid, host, int(port), timeout=60)
        body = json.dumps({"model": "drained", "max_tokens": tokens, "stream": True})
        try:
            connection.request("POST", "/v1/chat/completions", body)
            response = connection.getresponse()
            self.accepted_by.put(response.headers["Standin-Pod"])
            text = response.read().decode()
        except (OSError, HTTPException) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            return
        finally:
            connection.close()
        received = text.count("data: {")
        if response.status == 200 and received == tokens and text.rstrip().endswith("[DONE]"):
            self.finished += 1
        else:
            self.failures.append(f"HTTP {response.status} after {received} of {tokens} tokens")

    def join(self) -> None:
        """Wait for all answers."""
        for thread in self._threads:
            thread.join()

    @property
    def started(self) -> int:
        """How many were sent."""
        return len(self._threads)


def test_no_accepted_request_is_lost_when_a_pod_goes(scene: NodeScene) -> None:
    scene.api.wait("VLLMDeployment", "drained", is_ready, NAMESPACE, seconds=60)
    assert len(pods(scene, "drained")) == 2
    requests = Requests(scene, "drained")
    for _ in range(LONG_REQUESTS):
        requests.start(LONG_SECONDS)
    gone, *_ = [requests.accepted_by.get(timeout=30) for _ in range(LONG_REQUESTS)]

    scene.api.delete("Pod", gone, NAMESPACE)

    # Each is a connection of its own, so that kube-proxy decides anew.
    until = time.monotonic() + LONG_SECONDS
    while time.monotonic() < until:
        requests.start(0.2)
        time.sleep(0.1)
    requests.join()
    assert requests.failures == []
    assert requests.finished == requests.started > 50
    scene.api.wait_gone("Pod", gone, NAMESPACE)
