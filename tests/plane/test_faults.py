"""A bad network and a lost API server: the operator finds back by itself, and forgets and invents nothing."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.controlplane.audit import AuditTrail
from tests.controlplane.bare import add_node
from tests.controlplane.client import Api, Refused
from tests.controlplane.faulty_proxy import OF_WRITES, FaultyProxy
from tests.controlplane.plane import service_account_token
from tests.controlplane.scene import NAMESPACE, NODES, SERVICE_ACCOUNT
from tests.controlplane.waiting import held_within, wait_until
from tests.plane.asked import Asked
from tests.plane.models import LLAMA_8B, deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Object
    from tests.controlplane.scene import Scene

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(1800)]

SEED = int(os.environ.get("SOAK_SEED", "9"))
OUTAGE_SECONDS = float(os.environ.get("SOAK_OUTAGE_SECONDS", "3"))
BURST = int(os.environ.get("SOAK_FAULTY_BURST", "12"))
FAULTY_SHARE = 0.2
RECOVERED_WITHIN_SECONDS = 30.0
ALL_WITHIN_SECONDS = 90.0 + BURST / 4
"""The back-off of one that is unlucky seven times in a row (0.5 + 1 + ... + 32 s, with jitter), and the others' turn:
four a second are a fifth of what two cores do when nothing fails."""
MOST_TRIES = 30
"""For each path of an object, whatever the burst: it is written once, after each edit and perhaps for the rival, ten
times in all, and that 20 more of 30 tries fail, where one in five does, has a probability of 4e-8."""
LOST_NODE = "gpu-a100-0"
ON_LOST_NODE: dict[str, Any] = {"nodeSelector": {"kubernetes.io/hostname": LOST_NODE}}


@pytest.fixture
def proxy(bare: Scene) -> Iterator[FaultyProxy]:
    with FaultyProxy(bare.plane, SEED) as running:
        yield running


@pytest.fixture
def behind(bare: Scene, proxy: FaultyProxy) -> Iterator[Scene]:
    """An operator that has only the proxy; it is not started."""
    token = service_account_token(bare.plane, NAMESPACE, SERVICE_ACCOUNT)
    kubeconfig = bare.plane.kubeconfig_for("behind-proxy", token=token, server=proxy.url)
    operator = bare.replica("vllm-operator-behind", kubeconfig=kubeconfig)
    yield operator
    if operator.process is not None:
        operator.stop_operator(kill=True)


@pytest.fixture
def lost_node(bare: Scene) -> Iterator[str]:
    """The node that a test takes away; it is there again afterwards."""
    yield LOST_NODE
    if bare.api.find("Node", LOST_NODE) is None:
        (node,) = (
            node for node in yaml.load_all(NODES.read_text(), yaml.CSafeLoader) if node["metadata"]["name"] == LOST_NODE
        )
        add_node(bare, node)


class Rival(threading.Thread):
    """Somebody who keeps writing to the same objects, as a second controller would."""

    def __init__(self, scene: Scene, namespace: str, names: list[str]) -> None:
        super().__init__(daemon=True)
        self._api = Api(scene.plane)
        self._namespace = namespace
        self._names = names
        self.stop = threading.Event()
        self.writes = 0

    def run(self) -> None:
        while not self.stop.is_set():
            for name in self._names:
                for kind in ("VLLMDeployment", "Deployment"):
                    patch = {"metadata": {"annotations": {"example.com/rival": str(self.writes)}}}
                    # What is not there yet, or was written at the same time, is tried again in the next round.
                    with contextlib.suppress(Refused, OSError):
                        self._api.patch(kind, name, patch, self._namespace)
                        self.writes += 1


def create_on_lost_node(api: Api, namespace: str) -> None:
    asked = {"gpu": ON_LOST_NODE, "policy": {"admission": "Warn"}}
    api.create(deployment(namespace, name="on-lost-node", model=LLAMA_8B, **asked))
    api.wait("VLLMDeployment", "on-lost-node", lambda obj: verdict_of(obj) == "Fits", namespace)


def verdict_of(obj: Object) -> str | None:
    return (obj.get("status") or {}).get("verdict")


def test_all_comes_about_although_a_fifth_of_the_requests_fails_and_somebody_else_writes_too(
    bare: Scene, bare_namespace: str, proxy: FaultyProxy, behind: Scene
) -> None:
    asked = Asked(bare.api, bare_namespace, random.Random(SEED))
    asked.create(BURST // 2)
    proxy.share = FAULTY_SHARE
    behind.start_operator()
    rival = Rival(bare, bare_namespace, list(asked.contexts)[:3])
    rival.start()
    asked.create(BURST - BURST // 2)
    for _ in range(BURST // 2):
        asked.edit_one()
    asked.wait(seconds=ALL_WITHIN_SECONDS)
    rival.stop.set()
    rival.join()
    asked.check()

    assert behind.process is not None
    assert behind.process.poll() is None
    assert rival.writes
    assert proxy.faults.keys() == set(OF_WRITES), "each kind of fault happened"
    assert_tries_are_bounded(proxy, asked)

    proxy.share = 0.0
    trail = AuditTrail(bare.plane.audit_log)
    bare.api.patch("VLLMDeployment", next(iter(asked.contexts)), {"spec": {"replicas": 1}}, bare_namespace)
    asked.wait()
    assert {request.resource for request in trail.writes()} <= {"vllmdeployments/status", "events"}


def assert_tries_are_bounded(proxy: FaultyProxy, asked: Asked) -> None:
    """Each object is written only so often, and of what is shared, events, there is one for each object at most."""
    written = {request: times for request, times in proxy.requests.items() if f"/{asked.namespace}/" in request}
    about_one = {request for request in written if request.removesuffix("/status").rpartition("/")[2] in asked.contexts}
    assert len(about_one) >= 3 * BURST, "Deployment, Service and status of each"
    assert max(written[request] for request in about_one) < MOST_TRIES, proxy.requests.most_common(5)
    assert sum(written[request] for request in written.keys() - about_one) <= MOST_TRIES + BURST, written


def test_what_was_deleted_while_no_watch_came_through_is_noticed(
    bare: Scene, bare_namespace: str, proxy: FaultyProxy, behind: Scene, lost_node: str
) -> None:
    api = bare.api
    behind.start_operator()
    asked = Asked(api, bare_namespace, random.Random(SEED))
    asked.create(3)
    asked.wait()
    create_on_lost_node(api, bare_namespace)
    trail = AuditTrail(bare.plane.audit_log)

    proxy.shut()
    asked.delete_one()
    gone_at = time.time()
    kept = next(iter(asked.contexts))
    api.delete("Deployment", kept, bare_namespace)
    api.delete("Node", lost_node)
    asks_in_vain = sum(proxy.requests.values())
    held_within(lambda: False, OUTAGE_SECONDS)
    asks_in_vain = sum(proxy.requests.values()) - asks_in_vain
    proxy.open = True

    api.wait("Deployment", kept, lambda obj: True, bare_namespace, seconds=RECOVERED_WITHIN_SECONDS)
    api.wait(
        "VLLMDeployment",
        "on-lost-node",
        lambda obj: verdict_of(obj) != "Fits",
        bare_namespace,
        seconds=RECOVERED_WITHIN_SECONDS,
    )
    remaining = len(asked.contexts) + 1
    wait_until(lambda: f"vllm_operator_resources {remaining}.0" in behind.metrics(), "no phantom resource")
    to_deleted = [
        write for write in trail.writes() if (write.namespace, write.name) == (bare_namespace, asked.deleted[-1])
    ]
    # What was under way when the proxy shut was begun before.
    assert [write for write in to_deleted if write.begun > gone_at] == []
    assert asks_in_vain < 20 + 20 * OUTAGE_SECONDS, "it does not hammer"


def test_an_api_server_that_was_away_and_a_history_that_was_compacted_leave_no_phantom(
    bare: Scene, bare_namespace: str, lost_node: str
) -> None:
    api, plane = bare.api, bare.plane
    bare.start_operator()
    asked = Asked(api, bare_namespace, random.Random(SEED))
    asked.create(4)
    asked.wait()
    create_on_lost_node(api, bare_namespace)
    lost, kept, *_ = asked.contexts

    plane.kill_apiserver()
    # Nobody is told of these: the API server, with its watches, is not there.
    forget(bare, f"minions/{lost_node}")
    forget(bare, f"deployments/{bare_namespace}/{kept}")
    forget(bare, f"vllm-operator.io/vllmdeployments/{bare_namespace}/{lost}")
    compact(bare)
    held_within(lambda: bare.process is None or bare.process.poll() is not None, OUTAGE_SECONDS)
    trail = AuditTrail(plane.audit_log)
    plane.start_apiserver()
    del asked.contexts[lost]

    assert bare.process is not None
    api.wait("Deployment", kept, lambda obj: True, bare_namespace, seconds=RECOVERED_WITHIN_SECONDS)
    api.wait(
        "VLLMDeployment",
        "on-lost-node",
        lambda obj: verdict_of(obj) != "Fits",
        bare_namespace,
        seconds=RECOVERED_WITHIN_SECONDS,
    )
    remaining = len(asked.contexts) + 1
    wait_until(
        lambda: f"vllm_operator_resources {remaining}.0" in bare.metrics(),
        "the deleted resource is forgotten",
        seconds=RECOVERED_WITHIN_SECONDS,
    )
    asked.wait(seconds=RECOVERED_WITHIN_SECONDS)
    mine = [request for request in trail.writes() if request.namespace == bare_namespace]
    made_anew = [request for request in mine if request.made_it and request.name == lost]
    assert made_anew == []
    assert bare.process.poll() is None, "the operator never ended"


def forget(scene: Scene, key: str) -> None:
    """Delete an object in etcd, past the API server."""
    encoded = base64.b64encode(f"/registry/{key}".encode()).decode()
    answer = scene.plane.etcd("kv/deleterange", {"key": encoded})
    assert answer.get("deleted") == "1", f"{key}: {answer}"


def compact(scene: Scene) -> None:
    """Throw etcd's history away, so that no version of before can be watched from."""
    header = scene.plane.etcd("kv/range", {"key": base64.b64encode(b"/registry/none").decode()})["header"]
    assert isinstance(header, dict)
    scene.plane.etcd("kv/compaction", {"revision": header["revision"], "physical": True})


def test_an_api_server_that_hangs_is_waited_for(bare: Scene, bare_namespace: str) -> None:
    bare.start_operator()
    asked = Asked(bare.api, bare_namespace, random.Random(SEED))
    asked.create(3)
    asked.wait()

    bare.plane.pause_apiserver()
    held_within(lambda: False, OUTAGE_SECONDS)
    bare.plane.resume_apiserver()

    asked.edit_one()
    asked.create(3)
    asked.wait(seconds=RECOVERED_WITHIN_SECONDS)
    asked.check()
    assert bare.process is not None
    assert bare.process.poll() is None
