"""A pod that is deleted finishes what it has accepted, and no request is sent to it any more."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.node.network import request
from tests.node.served import NAMESPACE, is_ready, pods, service_address

if TYPE_CHECKING:
    from tests.node.scene import NodeScene

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("models")]

TOKENS_A_SECOND = 20
"""What the stand-in streams."""
LONG_SECONDS = 20
"""Longer than the rendered preStop of 15 s: the last five are streamed while vLLM is shutting down."""


class Requests:
    """Counts answers of the model's Service; a request that was not answered in full is a failure."""

    def __init__(self, scene: NodeScene, name: str) -> None:
        self._pid = scene.plane.pid
        self._address = service_address(scene, name)
        self._threads: list[threading.Thread] = []
        self.finished = 0
        self.failures: list[str] = []

    def start(self, seconds: float) -> None:
        """Send one that streams for so long."""
        thread = threading.Thread(target=self._stream, args=(int(seconds * TOKENS_A_SECOND),), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _stream(self, tokens: int) -> None:
        body = {"model": "drained", "max_tokens": tokens, "stream": True}
        try:
            status, text = request(self._pid, "POST", self._address, "/v1/chat/completions", body, timeout=60)
        except (OSError, EOFError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            return
        received = text.count("data: {")
        if status == 200 and received == tokens and text.rstrip().endswith("[DONE]"):
            self.finished += 1
        else:
            self.failures.append(f"HTTP {status} after {received} of {tokens} tokens")

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
    before = pods(scene, "drained")
    assert len(before) == 2
    requests = Requests(scene, "drained")
    for _ in range(8):
        requests.start(LONG_SECONDS)
    gone = before[0]["metadata"]["name"]

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
