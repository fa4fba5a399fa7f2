"""Scenario: nothing happens that concerns anybody, for ten minutes: heartbeats of nodes, pods of others come and go."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

from tests.perf import burst, objects
from tests.perf.audit import of_operator
from tests.perf.client import paced
from tests.perf.figures import Section
from tests.perf.process import load
from tests.perf.stage import NAMESPACE, stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.perf.client import Client
    from tests.perf.settings import Sizes

HEARTBEAT_SECONDS = 300.0
"""How often a kubelet reports the status of a node in which nothing changes (nodeStatusReportFrequency)."""
PODS_A_SECOND = 1.0
"""Pods of others that are created, and as many that are deleted."""
MOST_CPU_PERCENT = 2.0


async def run(sizes: Sizes) -> AsyncIterator[Section]:
    """Watch the operator while only others work."""
    section = Section(
        f"Idle for {sizes.idle_seconds:.0f} s with {sizes.burst:,} resources and {sizes.nodes:,} nodes",
        f"Each node reports its status every {HEARTBEAT_SECONDS:.0f} s; {PODS_A_SECOND:.0f} pod a second of somebody "
        "else comes to a GPU node, and one goes.",
        load=load(),
    )
    async with stage(node_count=sizes.nodes) as place:
        await burst.created(place, sizes.burst)
        before, cpu, metrics = len(place.audit.read()), place.operator.cpu_seconds(), place.operator_metrics()
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(_heartbeats(place.client, sizes.nodes, sizes.idle_seconds))
            group.create_task(_pods(place.client, sizes.nodes, sizes.idle_seconds))
        seconds = time.perf_counter() - begun
        used = place.operator.cpu_seconds() - cpu
        await place.quiet()
        requests = of_operator(place.audit, since=before)
        added = place.operator_metrics().since(metrics)
        section.equal("writes", sum(request.wrote for request in requests), 0)
        section.at_most("CPU time of the operator", 100 * used / seconds, MOST_CPU_PERCENT, unit="% of a core")
        section.note("reconciles", added.total("vllm_operator_reconcile_seconds_count"))
        section.note("memory", place.operator.resident_bytes() / 1e6, "MB")
    yield section


async def _heartbeats(client: Client, count: int, seconds: float) -> None:
    """Report the nodes' status in turn, with nothing new in it but the time."""
    nodes = cycle(list(objects.nodes(count)))
    per_second = count / HEARTBEAT_SECONDS
    await paced([partial(_beat, client, next(nodes)) for _ in range(int(seconds * per_second))], per_second=per_second)


async def _beat(client: Client, node: objects.Manifest) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [{**condition, "lastHeartbeatTime": now} for condition in node["status"]["conditions"]]
    path = f"{objects.NODES_PATH}/{node['metadata']['name']}/status"
    await client.merge(path, {"status": {"conditions": conditions}})


async def _pods(client: Client, nodes: int, seconds: float) -> None:
    await paced(list(_churn(client, nodes, int(seconds * PODS_A_SECOND))), per_second=2 * PODS_A_SECOND)


def _churn(client: Client, nodes: int, count: int) -> Iterator[Callable[[], Awaitable[object]]]:
    """Yield the creation of a pod and the deletion of an earlier one by turns."""
    path = objects.PODS.format(NAMESPACE)
    for number in range(count):
        pod = objects.pod(NAMESPACE, f"churn-{number:05d}", node=f"node-{number % nodes:05d}")
        yield partial(client.create, path, pod)
        if number:
            yield partial(client.delete, f"{path}/churn-{number - 1:05d}", grace_seconds=0)
