"""Where a scenario takes place: a fresh API server and etcd, GPU nodes that are only objects, and the operator."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tests.controlplane.audit import AuditTrail
from tests.controlplane.plane import ControlPlane
from tests.controlplane.scene import Scene
from tests.hub.server import HubModel, HubServer
from tests.perf import objects
from tests.perf.client import Client, at_once
from tests.perf.process import Process
from tests.perf.scraped import Metrics
from tests.plane.models import PUBLIC_MODELS, config_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NAMESPACE = "bench"
POLL_SECONDS = 0.1
QUIET_SECONDS = 2.0
"""How long nothing may be written before a load counts as done: what comes after would be a write too many."""


class Unfinished(AssertionError):
    """The operator did not get done; the message says how far it was."""


@dataclass
class Stage:
    """One plane with one operator, which may be stopped and started again."""

    scene: Scene
    client: Client
    audit: AuditTrail

    @property
    def operator(self) -> Process:
        """The operator's process."""
        assert self.scene.process is not None, "the operator is not running"
        return Process(self.scene.process.pid)

    def operator_metrics(self) -> Metrics:
        """Return the operator's own metrics at this moment."""
        return Metrics.parse(self.scene.metrics())

    async def server_metrics(self) -> Metrics:
        """Return the API server's metrics at this moment."""
        return Metrics.parse(await self.client.text("/metrics"))

    async def until(self, done: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Look again and again whether something holds.

        Raises:
            Unfinished: it does not hold after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise Unfinished(f"{what} not within {seconds:.0f} s; the operator's log:\n{self._log_end()}")
            await asyncio.sleep(POLL_SECONDS)

    async def quiet(self) -> None:
        """Wait until the operator has had time for a write too many."""
        await asyncio.sleep(QUIET_SECONDS)
        self.audit.read()

    async def reconciled(self, count: int, *, seconds: float) -> None:
        """Wait until so many reconciles have ended since the operator's start and none waits."""

        def done() -> bool:
            metrics = self.operator_metrics()
            ended = metrics.total("vllm_operator_reconcile_seconds_count")
            return ended >= count and not metrics.total("vllm_operator_queue_depth")

        await self.until(done, seconds=seconds, what=f"{count} reconciles")

    def _log_end(self) -> str:
        return self.scene.operator_log()[-2000:]


@asynccontextmanager
async def stage(*, node_count: int, operator: bool = True) -> AsyncIterator[Stage]:
    """Start API server and etcd alone, install the chart's objects, create the nodes and start the operator.

    Priority and fairness is off, so that the server's own limits, and no share of them, is what everybody meets.
    """
    with (
        HubServer() as hub,
        ControlPlane(with_nodes=False, priority_and_fairness=False, audit=True) as plane,
    ):
        hub.models |= {model: HubModel(files={"config.json": config_of(model)}) for model in PUBLIC_MODELS}
        scene = Scene(plane, environment={"HF_ENDPOINT": hub.endpoint})
        async with Client(plane) as client:
            try:
                scene.install()
                await client.create(objects.NAMESPACES, {"metadata": {"name": NAMESPACE}})
                await _warm_up(client)
                await at_once(partial(_add_node, client, node) for node in objects.nodes(node_count))
                if operator:
                    scene.start_operator()
                yield Stage(scene, client, AuditTrail(plane.audit_log, everyone=True))
            finally:
                scene.close()


async def _warm_up(client: Client) -> None:
    """Let the API server do once what it does for the first object of each kind, some of it for seconds."""
    name = "warm-up"
    kinds = ((objects.DEPLOYMENTS, objects.deployment), (objects.SERVICES, objects.service))
    resource = objects.resource(NAMESPACE, 0)
    paths = [objects.RESOURCES.format(NAMESPACE) + "/" + resource["metadata"]["name"]]
    await client.create(objects.RESOURCES.format(NAMESPACE), resource)
    for path, bare in kinds:
        paths.append(f"{path.format(NAMESPACE)}/{name}")
        await client.apply(paths[-1], bare(NAMESPACE, name))
    for path in paths:
        await client.delete(path)


async def _add_node(client: Client, node: objects.Manifest) -> None:
    await client.create(objects.NODES_PATH, node)
    path = f"{objects.NODES_PATH}/{node['metadata']['name']}"
    # What the kubelet and the node controller would do: report the status, and take away the taint of new nodes.
    await client.merge(f"{path}/status", {"status": node["status"]})
    await client.merge(path, {"spec": {"taints": node["spec"].get("taints", [])}})
