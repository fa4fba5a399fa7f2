"""Objects of other projects' kinds are restored like our own: leaf by leaf, with what was added, and when deleted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane import foreign_kinds
from tests.controlplane.client import condition
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_drift import Vandal, leaves_of
from tests.plane.test_optional_objects import FOREIGN
from tests.plane.test_verdicts import WORKLOAD

if TYPE_CHECKING:
    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

KINDS = tuple(foreign_kinds.CRDS)
ADDITIONS = {
    "NetworkPolicy": (("/spec/ingress/0/from/-", {"namespaceSelector": {}}), ("/spec/ingress/0/ports/-", {"port": 22})),
    "HTTPRoute": (("/spec/parentRefs/-", {"name": "another"}), ("/spec/hostnames/-", "another.example.com")),
    "InferencePool": (("/spec/targetPorts/-", {"number": 9000}),),
    "PodMonitor": (("/spec/podMetricsEndpoints/-", {"port": "http", "path": "/another"}),),
    "ScaledObject": (("/spec/triggers/-", {"type": "cron", "metadata": {"timezone": "UTC"}}),),
}
"""Items added to lists that are the operator's as a whole."""


@pytest.fixture
def made(api: Api, namespace: str, foreign: None) -> str:
    """A resource with an object of every kind that comes from elsewhere, and a NetworkPolicy."""
    closed = {"networkPolicy": {"allowedNamespaces": {"team": "gateway"}}}
    api.create(
        deployment(namespace, model=LLAMA_8B, workload=WORKLOAD, gpu={"products": ["*H100*"]}, **FOREIGN, **closed)
    )
    api.wait("VLLMDeployment", "model", lambda obj: condition(obj, "Rendered").get("reason") == "Applied", namespace)
    for kind in ADDITIONS:
        api.wait(kind, "model", bool, namespace)
    return "model"


def test_every_leaf_of_a_foreign_object_is_restored(scene: Scene, namespace: str, made: str) -> None:
    def work(kind: str) -> dict[str, bool]:
        vandal = Vandal(scene, namespace, kind, made)
        return {leaf.pointer: any(damage.accepted for damage in vandal.damage(leaf)) for leaf in vandal.leaves()}

    with ThreadPoolExecutor(len(KINDS)) as pool:
        mended = dict(zip(KINDS, pool.map(work, KINDS), strict=True))

    for kind, leaves in mended.items():
        # Enumerations and forms of their own refuse most damage; nothing else may.
        untouched = {pointer.rpartition("/")[2] for pointer, accepted in leaves.items() if not accepted}
        assert untouched <= {"type", "failureMode", "request"}, kind
        assert any(pointer.startswith("/spec") and accepted for pointer, accepted in leaves.items()), kind


@pytest.mark.parametrize("kind", ADDITIONS)
def test_what_is_added_to_a_list_of_ours_is_taken_out_again(scene: Scene, namespace: str, made: str, kind: str) -> None:
    vandal = Vandal(scene, namespace, kind, made)
    for pointer, item in ADDITIONS[kind]:
        assert vandal.is_restored_after([{"op": "add", "path": pointer, "value": item}])


def test_a_foreign_object_that_is_deleted_comes_back(api: Api, namespace: str, made: str) -> None:
    old = {kind: api.get(kind, made, namespace) for kind in KINDS}
    for kind in KINDS:
        api.delete(kind, made, namespace)
    for kind in KINDS:

        def is_another(obj: dict[str, Any], uid: str = old[kind]["metadata"]["uid"]) -> bool:
            return bool(obj["metadata"]["uid"] != uid)

        new = api.wait(kind, made, is_another, namespace)
        assert {leaf.pointer for leaf in leaves_of(new)} == {leaf.pointer for leaf in leaves_of(old[kind])}
