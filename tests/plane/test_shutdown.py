"""Asked to stop in a burst: what is begun is finished, the Lease is given back, the successor goes on at once."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.controlplane.audit import AuditTrail
from tests.controlplane.scene import NAMESPACE
from tests.controlplane.waiting import wait_until
from tests.plane.asked import Asked

if TYPE_CHECKING:
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

STOPPED_WITHIN_SECONDS = 5.0
"""A pod has thirty; the drain of our writes alone may take ten when the API server is slow."""
SHORTEST_WAIT_OF_KOPF_SECONDS = 5.0
"""For what still runs when it has stopped (kopf._core.reactor.running)."""
UNREAD_SCRAPES = 400
"""Answers of tens of kilobytes: together more than the kernel keeps for a connection (net.ipv4.tcp_wmem: 4 MiB)."""
LEASE = "/apis/coordination.k8s.io/v1/namespaces/vllm-operator/leases/vllm-operator"


def probed(port: int) -> bool:
    """Whether something answers there, whatever it says."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def unread_bytes(client: socket.socket) -> int:
    """Return how much the kernel keeps of what was sent to a connection of this machine (proc_pid_net(5))."""
    ends = [f"0100007F:{port:04X}" for port in (client.getpeername()[1], client.getsockname()[1])]
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    return sum(int(row[4].partition(":")[0], 16) for row in rows if row[1:3] == ends)


def test_sigterm_in_a_burst_ends_well_and_the_successor_goes_on_at_once(bare: Scene, bare_namespace: str) -> None:
    asked = Asked(bare.api, bare_namespace, random.Random(1))
    trail = AuditTrail(bare.plane.audit_log)
    bare.start_operator()
    asked.create(40)
    wait_until(lambda: len(trail.writes()) >= 10, "it is in the middle of it")

    began = time.monotonic()
    assert bare.stop_operator() == 0
    assert time.monotonic() - began < STOPPED_WITHIN_SECONDS
    stopped_after = len(trail.writes())
    cut_off = [request for request in trail.writes() if request.code in (0, 499) or request.code >= 500]
    assert cut_off == [], "no request was left without its answer"
    assert '"holderIdentity":""' in bare.api.raw(LEASE), f"the Lease of {NAMESPACE} is free"

    asked.create(1)
    successor = bare.replica("vllm-operator-successor")
    began = time.monotonic()
    try:
        successor.start_operator()
        wait_until(lambda: len(trail.writes()) > stopped_after, "the successor writes", seconds=STOPPED_WITHIN_SECONDS)
        asked.wait()
        asked.check()
        assert successor.stop_operator() == 0
    finally:
        if successor.process is not None:
            successor.stop_operator(kill=True)
    made = [(request.resource, request.name) for request in trail.writes() if request.made_it]
    assert len(made) == len(set(made)), "nothing was made twice"


def test_sigterm_is_obeyed_from_the_first_moment_on(bare: Scene) -> None:
    bare.spawn_operator()
    wait_until(lambda: probed(bare.http_port), "it answers its probes, and has begun nothing else")

    began = time.monotonic()
    assert bare.stop_operator() == 0
    assert time.monotonic() - began < STOPPED_WITHIN_SECONDS


def test_a_connection_that_is_kept_open_holds_no_shutdown_up(bare: Scene) -> None:
    bare.start_operator()
    prometheus = http.client.HTTPConnection("127.0.0.1", bare.http_port)
    with contextlib.closing(prometheus):
        prometheus.request("GET", "/metrics")
        assert prometheus.getresponse().read()
        began = time.monotonic()
        assert bare.stop_operator() == 0
        assert time.monotonic() - began < SHORTEST_WAIT_OF_KOPF_SECONDS


def test_a_scraper_that_does_not_read_keeps_nobody_from_the_lease(bare: Scene) -> None:
    bare.start_operator()
    with socket.socket() as scraper:
        scraper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        scraper.connect(("127.0.0.1", bare.http_port))
        scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: operator\r\n\r\n" * UNREAD_SCRAPES)
        looks: deque[int] = deque(maxlen=5)

        def stuck() -> bool:
            looks.append(unread_bytes(scraper))
            return len(looks) == looks.maxlen and looks[0] > 0 and len(set(looks)) == 1

        wait_until(stuck, "the operator has an answer that nobody takes", step_seconds=0.1)
        began = time.monotonic()
        assert bare.stop_operator() == 0
        assert time.monotonic() - began < SHORTEST_WAIT_OF_KOPF_SECONDS
    assert '"holderIdentity":""' in bare.api.raw(LEASE)
