"""The real scheduler agrees with the planner.

For generated clusters and deployments, from what the API server shows of them: what the planner calls `Fits` is
scheduled where it was planned; what it calls `DoesNotFit`, `FitsIfFreed` or `FitsWhenScaled` stays Pending when it is
forced through. The model is small enough for every card, so that only room decides: of memory the scheduler knows
nothing. 25 cases by default, the same ones each time; `make soak` draws new ones.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st
from tests.controlplane.client import Api
from tests.unit.planning.fleets import CARDS, facts, inventory, node, spec

from vllm_operator.api.v1alpha1 import parse_deployment
from vllm_operator.cluster.declared import declared_offers, project_node_pool
from vllm_operator.cluster.inventory import Inventory
from vllm_operator.cluster.nodes import project_node
from vllm_operator.cluster.pods import project_pod
from vllm_operator.planning.capacity import Exclusion
from vllm_operator.planning.decide import Capabilities, OperatorDefaults, plan
from vllm_operator.planning.plan import Plan, Verdict
from vllm_operator.planning.request import request_of
from vllm_operator.planning.sorting import capacity_for
from vllm_operator.render.objects import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.given import GivenCluster
    from tests.controlplane.plane import ControlPlane

pytestmark = pytest.mark.control_plane

SOAK_CASES = int(os.environ.get("SOAK_CASES", "0"))
CASES = SOAK_CASES or 25

MODEL = "Qwen/Qwen3-0.6B"
"""16 heads, 8 of keys and values: every tensor-parallel size up to 8, on every card of the fleet."""
GPU = "nvidia.com/gpu"
CASE_LABEL = "vllm-operator.test/case"
ZONE = "topology.kubernetes.io/zone"
NOT_READY = "node.kubernetes.io/not-ready"
TEAM_TAINT = {"key": "team", "value": "search", "effect": "NoSchedule"}
TAINTS = (
    {"key": GPU, "value": "present", "effect": "NoSchedule"},
    TEAM_TAINT,
    {**TEAM_TAINT, "effect": "NoExecute"},
    {**TEAM_TAINT, "effect": "PreferNoSchedule"},
)
TOLERATIONS = (
    {"key": "team", "value": "search"},
    {"key": "team", "value": "another"},
    {"key": "team", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "team", "operator": "Exists"},
    {"operator": "Exists"},
)
PLANNERS_OWN = frozenset({Exclusion.PRODUCT, Exclusion.MEMORY, Exclusion.SHARING})
"""What rules a node out for the planner alone: the scheduler knows no products and no memory."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One node and what other pods already hold of it."""

    card: str | None
    gpus: int
    cpu: str
    memory: str
    pods: str
    zone: str
    taint: dict[str, str] | None
    cordoned: bool
    time_sliced: bool
    held: dict[str, str] | None


@dataclass(frozen=True, kw_only=True)
class Case:
    """A cluster and what is asked of it."""

    machines: tuple[Machine, ...]
    declared_gpus: int
    """GPUs of a node that an autoscaler would add; 0 for none."""
    replicas: int
    sections: dict[str, Any]


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    gpus = draw(st.sampled_from([1, 2, 4, 8, 8]))

    def usually(usual: Any, *others: Any) -> Any:
        return draw(st.sampled_from([usual] * 8 + list(others)))

    held = {
        GPU: str(draw(st.integers(0, gpus))),
        "cpu": usually("100m", "3", "62500m"),
        "memory": usually("1Gi", "507Gi"),
    }
    return Machine(
        card=draw(st.sampled_from([*CARDS, *CARDS, None])),
        gpus=gpus,
        cpu=usually("64", "2", "4", "9"),
        memory=usually("512Gi", "3Gi", "6Gi", "17Gi"),
        pods=usually("110", "1", "2"),
        zone=draw(st.sampled_from("ab")),
        taint=usually(None, *TAINTS),
        cordoned=draw(st.integers(0, 5)) == 0,
        time_sliced=draw(st.integers(0, 6)) == 0,
        held=held if draw(st.booleans()) else None,
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sections: dict[str, Any] = {"gpu": {}, "engine": {}}
    tensor = draw(st.sampled_from([None, None, 1, 1, 2, 2, 4, 8]))
    if tensor is not None:
        sections["engine"]["tensorParallelSize"] = tensor
    zone = draw(st.sampled_from([None] * 6 + ["a", "a", "c"]))
    sections["gpu"]["nodeSelector"] = {ZONE: zone} if zone else {}
    toleration = draw(st.sampled_from([None, *TOLERATIONS]))
    sections["gpu"]["tolerations"] = [toleration] if toleration else []
    products = draw(st.sampled_from([None] * 8 + [["*H100*", "*L4*"], ["*A100*"]]))
    if products:
        sections["gpu"]["products"] = products
    if draw(st.booleans()):
        sections["gpu"]["sharing"] = "AllowShared"
    overlay = draw(st.sampled_from([None, None, None, *OVERLAYS]))
    if overlay:
        sections["podTemplate"] = overlay
    return Case(
        machines=tuple(draw(st.lists(machines(), min_size=2, max_size=6))),
        declared_gpus=draw(st.sampled_from([0, 0, 8])),
        replicas=draw(st.sampled_from([1, 1, 2, 3])),
        sections=sections,
    )


OVERLAYS = (
    {"spec": {"containers": [{"name": "engine", "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}}}]}},
    {"spec": {"containers": [{"name": "engine", "resources": {"requests": {"cpu": "8", "memory": "16Gi"}}}]}},
    {"spec": {"containers": [{"name": "proxy", "image": "proxy:1", "resources": {"limits": {"cpu": "2"}}}]}},
    {"spec": {"initContainers": [{"name": "fetch", "image": "fetch:1", "resources": {"requests": {"cpu": "5"}}}]}},
)
"""What users lay over the pod that changes where it finds room."""


@pytest.fixture(scope="module")
def admin(control_plane: ControlPlane | GivenCluster) -> Api:
    return Api(control_plane)


@pytest.fixture(scope="module")
def own_namespace(admin: Api) -> Iterator[str]:
    name = f"scheduler-{uuid.uuid4().hex[:8]}"
    admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    admin.wait("ServiceAccount", "default", bool, name)
    yield name
    admin.delete("Namespace", name)


@pytest.mark.timeout(120 + 10 * CASES)
@settings(
    max_examples=CASES,
    derandomize=not SOAK_CASES,
    database=None,
    deadline=None,
    # A case takes half a second, and says itself what is in it.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(case=cases())
def test_what_fits_is_scheduled_where_planned_and_what_does_not_stays_pending(
    admin: Api, own_namespace: str, case: Case
) -> None:
    name = f"case-{uuid.uuid4().hex[:8]}"
    nodes = [_node(f"{name}-{number}", name, machine) for number, machine in enumerate(case.machines)]
    try:
        for obj, machine in zip(nodes, case.machines, strict=True):
            _create(admin, obj, machine, own_namespace)
        _check(admin, own_namespace, name, case)
    finally:
        admin.delete("Deployment", name, own_namespace)
        for obj in nodes:
            admin.delete("Node", obj["metadata"]["name"])


def _check(admin: Api, namespace: str, name: str, case: Case) -> None:
    sections = {**case.sections, "replicas": case.replicas}
    selector = {CASE_LABEL: name, **case.sections["gpu"]["nodeSelector"]}
    sections["gpu"] = {**case.sections["gpu"], "nodeSelector": selector}
    wanted = spec(MODEL, **{"workload": {"contextLength": 2048}, "policy": {"admission": "Off"}, **sections})
    seen = _inventory(admin, name, case)
    planned = plan(wanted, facts(MODEL), seen)
    note(planned.message)
    event(planned.verdict.value)
    if planned.verdict is Verdict.UNKNOWN:
        return
    forced = planned
    if not planned.renderable:
        request = request_of(wanted, OperatorDefaults(), Capabilities())
        if capacity_for(request.gpus, seen).excluded.keys() & PLANNERS_OWN:
            return
        forced = _as_if_there_were_a_node(wanted, selector)
    assert forced.placement is not None
    pods = _scheduled(admin, namespace, name, sections, forced)
    homes = [pod["spec"].get("nodeName") for pod in pods]
    told = [condition.get("message") for pod in pods for condition in pod["status"].get("conditions", [])]
    if planned.verdict is Verdict.FITS:
        assert set(homes) <= set(forced.placement.nodes), (planned.message, homes, told)
        return
    assert None in homes, (planned.message, homes)


def _inventory(admin: Api, name: str, case: Case) -> Inventory:
    """Read the cluster as the operator would, and add what an autoscaler declares."""
    nodes = [project_node(obj) for obj in admin.list("Node")]
    pods = [record for obj in admin.list("Pod", "") if (record := project_pod(obj)) is not None]
    existing = Inventory.build(nodes, pods)
    if not case.declared_gpus:
        return existing
    declaration = project_node_pool(_node_pool(name, case.declared_gpus))
    assert declaration is not None
    declaration = replace(declaration, labels={**declaration.labels, CASE_LABEL: name, ZONE: "a"})
    return replace(existing, offers=existing.offers + declared_offers([declaration], existing.offers))


def _as_if_there_were_a_node(wanted: Any, labels: dict[str, str]) -> Plan:
    """Plan on a node that meets every wish, so that there is something to force on a cluster without one."""
    return plan(wanted, facts(MODEL), inventory(node("H100", "ideal", 8, labels=labels)))


def _scheduled(admin: Api, namespace: str, name: str, sections: dict[str, Any], forced: Plan) -> list[dict[str, Any]]:
    """Apply what the plan renders to and return its pods once the scheduler has said of each what it can do."""
    deployment = parse_deployment(
        {
            "apiVersion": "vllm-operator.io/v1alpha1",
            "kind": "VLLMDeployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"model": {"uri": MODEL}, **sections},
        }
    )
    manifests = render(forced, deployment, namespace=namespace, name=name)
    admin.apply(next(manifest for manifest in manifests if manifest["kind"] == "Deployment"))
    admin.wait(
        "Deployment",
        name,
        lambda obj: (obj.get("status") or {}).get("replicas") == sections["replicas"],
        namespace,
    )
    pods = admin.list("Pod", namespace, labelSelector=f"app.kubernetes.io/instance={name}")
    assert len(pods) == sections["replicas"]
    return [admin.wait("Pod", pod["metadata"]["name"], _is_decided, namespace) for pod in pods]


def _is_decided(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return bool(pod["spec"].get("nodeName")) or any(
        condition["type"] == "PodScheduled" and condition["status"] == "False" for condition in conditions
    )


def _node(name: str, case: str, machine: Machine) -> dict[str, Any]:
    labels = {CASE_LABEL: case, ZONE: machine.zone}
    gpus = machine.gpus
    if machine.time_sliced and machine.card is not None:
        labels |= {"nvidia.com/gpu.sharing-strategy": "time-slicing", "nvidia.com/gpu.replicas": "4"}
        labels |= {"nvidia.com/gpu.product": f"{CARDS[machine.card].product}-SHARED"}
        gpus *= 4
    obj = node(
        machine.card,
        name,
        machine.gpus,
        taints=[machine.taint] if machine.taint else [],
        labels=labels,
        cordoned=machine.cordoned,
    )
    obj["metadata"]["annotations"] = {"kwok.x-k8s.io/node": "fake"}
    size = {"cpu": machine.cpu, "memory": machine.memory, "pods": machine.pods, GPU: str(gpus)}
    obj["status"] |= {"capacity": size, "allocatable": size}
    return obj


def _create(admin: Api, obj: dict[str, Any], machine: Machine, namespace: str) -> None:
    """Create a node and what is on it, and wait until the controllers have said what they think of it."""
    name = obj["metadata"]["name"]
    admin.create(obj)
    if machine.held is not None:
        admin.create(_holder(name, machine.held, namespace))
    cordon = "node.kubernetes.io/unschedulable"

    def settled(there: dict[str, Any]) -> bool:
        keys = {taint["key"] for taint in there["spec"].get("taints", [])}
        return NOT_READY not in keys and (cordon in keys) == machine.cordoned

    admin.wait("Node", name, settled)


def _holder(node_name: str, held: dict[str, str], namespace: str) -> dict[str, Any]:
    """A pod of somebody else that is already there."""
    requests = {resource: quantity for resource, quantity in held.items() if quantity != "0"}
    limits = {GPU: requests[GPU]} if GPU in requests else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"holds-{node_name}", "namespace": namespace},
        "spec": {
            "nodeName": node_name,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": "main:1", "resources": {"requests": requests, "limits": limits}}],
        },
    }


def _node_pool(name: str, gpus: int) -> dict[str, Any]:
    """A Karpenter NodePool that may add nodes of one kind."""
    requirements = {
        "karpenter.k8s.aws/instance-gpu-name": "h100",
        "karpenter.k8s.aws/instance-gpu-count": str(gpus),
        "karpenter.k8s.aws/instance-gpu-memory": "81920",
    }
    return {
        "metadata": {"name": name},
        "spec": {
            "template": {
                "spec": {
                    "requirements": [
                        {"key": key, "operator": "In", "values": [value]} for key, value in requirements.items()
                    ]
                }
            }
        },
    }
