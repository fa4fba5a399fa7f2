"""Scenario: one of very many nodes changes, and only those who depend on it are looked at again."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from tests.perf import objects
from tests.perf.audit import of_operator
from tests.perf.client import at_once
from tests.perf.figures import Bar, Section
from tests.perf.process import load
from tests.perf.stage import NAMESPACE

if TYPE_CHECKING:
    from tests.perf.settings import Sizes
    from tests.perf.stage import Stage

DEPENDENTS = 5
NODE = "node-00000"
STATUS = "vllmdeployments/status"
LONGEST_SECONDS = 1.0


async def one_node_changes(place: Stage, sizes: Sizes, where: str) -> Section:
    """Cordon the node to which five resources are bound by their selector."""
    section = Section(
        f"One node changes: {where}",
        f"A node is cordoned; {DEPENDENTS} resources allow no other, the rest have many like it.",
        load=load(),
    )
    await _bound_to_the_node(place)
    metrics, before = place.operator_metrics(), len(place.audit.read())
    begun = time.time()
    await place.client.merge(f"{objects.NODES_PATH}/{NODE}", {"spec": {"unschedulable": True}})

    def statuses() -> dict[str, float]:
        place.audit.read()
        return {
            request.name: request.ended
            for request in of_operator(place.audit, since=before)
            if request.resource == STATUS
        }

    await place.until(lambda: len(statuses()) >= DEPENDENTS, seconds=60, what=f"{DEPENDENTS} statuses")
    await place.quiet()
    added = place.operator_metrics().since(metrics)
    section.at_most("their new status is written after", max(statuses().values()) - begun, LONGEST_SECONDS, unit="s")
    section.equal("resources whose status is written", len(statuses()), DEPENDENTS)
    section.at_most(
        "looks at resources: one each, and one where the watch is faster than the answer to a write",
        added.total("vllm_operator_reconcile_seconds_count"),
        2 * DEPENDENTS,
        kind=Bar.ASSERTED,
    )
    await place.client.merge(f"{objects.NODES_PATH}/{NODE}", {"spec": {"unschedulable": None}})
    return section


async def _bound_to_the_node(place: Stage) -> None:
    before = len(place.audit.read())
    await at_once(
        partial(place.client.create, objects.RESOURCES.format(NAMESPACE), _bound(number))
        for number in range(DEPENDENTS)
    )

    def done() -> bool:
        place.audit.read()
        return sum(request.wrote for request in of_operator(place.audit, since=before)) >= 3 * DEPENDENTS

    await place.until(done, seconds=60, what=f"{DEPENDENTS} resources")
    await place.quiet()


def _bound(number: int) -> objects.Manifest:
    resource = objects.resource(NAMESPACE, number, among=objects.MODELS[:1])
    resource["metadata"]["name"] = f"bound-{number}"
    resource["spec"]["gpu"] = {"nodeSelector": {"kubernetes.io/hostname": NODE}}
    return resource
