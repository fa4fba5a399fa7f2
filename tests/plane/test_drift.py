"""Every leaf that the operator owns is restored when it is edited, and when it is removed.

The cases come from the API server itself: what its record of field ownership (`managedFields`) says is the operator's,
down to the last scalar of every object. Each is damaged alone, as a repair of one leaf repairs them all. Where the API
server refuses the damage there is nothing to restore.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.client import Api, Refused, condition
from tests.plane.models import LLAMA_8B, deployment
from tests.plane.test_verdicts import WORKLOAD

from vllm_operator.render.labels import MANAGER

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

COPIES = 3
"""Equal resources whose leaves are damaged side by side."""
RESTORED_WITHIN_SECONDS = 10.0
NOT_STATED = ("resourceVersion", "generation", "managedFields", "uid", "creationTimestamp")
KINDS = ("Deployment", "Service", "PersistentVolumeClaim", "PodDisruptionBudget", "NetworkPolicy")
REPLACEMENTS = {
    "TCP": "UDP",
    "ClusterIP": "NodePort",
    "In": "NotIn",
    "Ingress": "Egress",
    "RuntimeDefault": "Unconfined",
    "Pods": "Percent",
}
"""Values of enumerations, of which most strings are none."""
REFUSED = {
    # The selector is immutable, the template's labels have to match it, and a claim's spec is immutable.
    "Deployment": r"/spec/selector/.*|/spec/template/metadata/labels/.*"
    # The only container; a volume and its mount, and both figures of the GPUs, have to agree.
    r"|/spec/template/spec/(containers/0/name|containers/0/volumeMounts/\d/name|volumes/\d/name)"
    r"|/spec/template/spec/containers/0/resources/.*/nvidia.com~1gpu|/spec/strategy/type"
    # The API server's default, and the only possible value.
    r"|/spec/template/spec/volumes/\d/downwardAPI/items/0/fieldRef/.*",
    # The only port cannot be missing; its protocol is a part of its identity.
    "Service": "/spec/ports/0/(port|protocol)",
    "PersistentVolumeClaim": "/spec/.*",
    # Each type names the one field beside it that is set.
    "HorizontalPodAutoscaler": "/spec/metrics/0/(pods/target/)?type",
}
"""Leaves whose damage, each alone, the API server refuses or mends itself."""
TOGETHER = {
    "strategy": [{"op": "replace", "path": "/spec/strategy", "value": {"type": "Recreate"}}],
    "GPUs": [
        {
            "op": "replace",
            "path": f"/spec/template/spec/containers/0/resources/{part}/nvidia.com~1gpu",
            "value": "2",
        }
        for part in ("requests", "limits")
    ],
    "volumes": [
        {"op": "remove", "path": "/spec/template/spec/containers/0/volumeMounts"},
        {"op": "remove", "path": "/spec/template/spec/volumes"},
    ],
    "template": [{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": ["--help"]}],
}
"""What of a Deployment can be damaged together only, or more coarsely than leaf by leaf."""
ENDS_THE_OBJECT = ("/metadata/ownerReferences/0/name", "/metadata/ownerReferences/0/uid")
"""The garbage collector deletes an object whose owner it does not find."""


@dataclass(frozen=True)
class Leaf:
    """One scalar that the operator owns: the JSON pointer and the value.

    `item` is the pointer of the list item that the scalar tells apart from the others: with another value it would be
    somebody else's item, beside ours that is missing.
    """

    pointer: str
    value: Any
    item: str | None = None

    def edits(self) -> Iterator[list[dict[str, Any]]]:
        """Yield JSON patches that could change it."""
        if self.item is None:
            for other in _others(self.value):
                yield [{"op": "replace", "path": self.pointer, "value": other}]

    def removal(self) -> list[dict[str, Any]]:
        """Return the JSON patch that could remove it."""
        return [{"op": "remove", "path": self.item or self.pointer}]


def _others(value: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
        yield value - 1
    elif isinstance(value, str):
        yield REPLACEMENTS.get(value, f"{value}x")
        yield f"{value}1"


def leaves_of(obj: dict[str, Any]) -> list[Leaf]:
    """Return the scalars of an object that its ownership record says are the operator's."""
    (owned,) = (
        entry["fieldsV1"]
        for entry in obj["metadata"]["managedFields"]
        if entry["manager"] == MANAGER and entry["operation"] == "Apply" and "subresource" not in entry
    )
    return list(_owned(obj, owned, ""))


def _owned(value: Any, fields: dict[str, Any], pointer: str, keys: Collection[str] = ()) -> Iterator[Leaf]:
    """Walk a value along `fieldsV1`: `f:name` is a field, `k:{…}` an item with these keys, `v:…` an item of a set."""
    inner = {key: below for key, below in fields.items() if key != "."}
    if not inner:
        yield from _scalars(value, pointer)
    for key, below in inner.items():
        kind, _, name = key.partition(":")
        if kind == "f" and name in keys:
            yield Leaf(f"{pointer}/{_escaped(name)}", value[name], item=pointer)
        elif kind == "f":
            yield from _owned(value[name], below, f"{pointer}/{_escaped(name)}")
        else:
            sought = json.loads(name)
            index = next(i for i, item in enumerate(value) if (_has(item, sought) if kind == "k" else item == sought))
            yield from _owned(value[index], below, f"{pointer}/{index}", keys=sought if kind == "k" else ())


def _has(item: dict[str, Any], keys: dict[str, Any]) -> bool:
    return all(item.get(key) == wanted for key, wanted in keys.items())


def _scalars(value: Any, pointer: str) -> Iterator[Leaf]:
    """Yield what is below a field that is owned as a whole."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _scalars(below, f"{pointer}/{_escaped(key)}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _scalars(below, f"{pointer}/{index}")
    else:
        yield Leaf(pointer, value)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _stated(obj: dict[str, Any]) -> dict[str, Any]:
    """Return what somebody has stated of an object."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in NOT_STATED}
    spec = {key: value for key, value in obj["spec"].items() if key != "nodePort"}
    return {"metadata": metadata, "spec": spec}


@dataclass(frozen=True)
class Damage:
    """One attempt on one leaf of one object, and what became of it."""

    kind: str
    pointer: str
    accepted: bool


class Vandal:
    """Damages one object's leaves one after the other and sees each of them restored."""

    def __init__(self, scene: Scene, namespace: str, kind: str, name: str) -> None:
        self._api = Api(scene.plane)
        self._namespace, self._kind, self._name = namespace, kind, name
        self._obj = self._api.get(kind, name, namespace)
        self._before = _stated(self._obj)

    def leaves(self) -> list[Leaf]:
        """Return the leaves that can be damaged without ending the object."""
        return [leaf for leaf in leaves_of(self._obj) if leaf.pointer not in ENDS_THE_OBJECT]

    def damage(self, leaf: Leaf) -> Iterator[Damage]:
        """Edit a leaf in the first way that the API server takes, and remove it."""
        edited = any(self.is_restored_after(patch) for patch in leaf.edits())
        yield Damage(self._kind, leaf.pointer, edited)
        yield Damage(self._kind, leaf.pointer, self.is_restored_after(leaf.removal()))

    def is_restored_after(self, patch: list[dict[str, Any]]) -> bool:
        """Whether the API server took the damage and the operator mended it; fails where it did not."""
        before = self._before
        try:
            damaged = _stated(self._api.edit(self._kind, self._name, patch, self._namespace))
        except Refused as error:
            if error.status != 422:
                raise
            return False
        if damaged == before:
            return False  # a default of the API server's, which it has put back itself
        try:
            self._api.wait(
                self._kind,
                self._name,
                lambda obj: _stated(obj) == before,
                self._namespace,
                seconds=RESTORED_WITHIN_SECONDS,
            )
        except AssertionError as error:
            raise AssertionError(f"{self._kind} {patch} was not restored") from error
        return True


@pytest.fixture
def everything(scene: Scene, api: Api, namespace: str) -> list[str]:
    """Equal resources with every object that there is an API for, each with its rollout paused.

    `spec.paused` is nobody's of ours: with it, a damaged pod template starts no pods, and its repair none either.
    """
    names = [f"model-{number}" for number in range(COPIES)]
    for name in names:
        api.create(
            deployment(
                namespace,
                name=name,
                model=LLAMA_8B,
                workload=WORKLOAD,
                gpu={"products": ["*H100*"]},
                replicas=2,
                cache={"type": "PersistentVolumeClaim", "size": "100Gi"},
                networkPolicy={"allowedNamespaces": {"team": "gateway"}},
            )
        )
    for name in names:
        api.wait("VLLMDeployment", name, lambda obj: condition(obj, "Rendered").get("status") == "True", namespace)
        api.wait("Deployment", name, bool, namespace)
        api.patch("Deployment", name, {"spec": {"paused": True}}, namespace)
        for kind in KINDS:
            api.wait(kind, _named(kind, name), bool, namespace)
    return names


@pytest.fixture
def scaled(api: Api, namespace: str) -> str:
    """A resource with an autoscaler, which excludes a number of replicas."""
    metric = {"name": "vllm_num_requests_waiting", "averageValue": "5"}
    scaling = {"minReplicas": 1, "maxReplicas": 3, "metric": metric}
    api.create(deployment(namespace, name="scaled", workload=WORKLOAD, gpu={"products": ["*L40S*"]}, scaling=scaling))
    api.wait("HorizontalPodAutoscaler", "scaled", bool, namespace)
    return "scaled"


def _named(kind: str, name: str) -> str:
    return f"{name}-cache" if kind == "PersistentVolumeClaim" else name


def test_every_leaf_that_is_ours_is_restored_when_it_is_edited_or_removed(
    scene: Scene, api: Api, namespace: str, everything: list[str], scaled: str
) -> None:
    def work(number: int) -> list[Damage]:
        """Damage every leaf of one of the copies, in turn with those of the others."""
        done: list[Damage] = []
        for kind in KINDS:
            vandal = Vandal(scene, namespace, kind, _named(kind, everything[number]))
            for leaf in vandal.leaves()[number::COPIES]:
                done.extend(vandal.damage(leaf))
        return done

    def work_on_autoscaler() -> list[Damage]:
        vandal = Vandal(scene, namespace, "HorizontalPodAutoscaler", scaled)
        return [damage for leaf in vandal.leaves() for damage in vandal.damage(leaf)]

    with ThreadPoolExecutor(COPIES + 1) as pool:
        at_work = [*(pool.submit(work, number) for number in range(COPIES)), pool.submit(work_on_autoscaler)]
        attempts = [damage for one in at_work for damage in one.result()]

    mended = {(damage.kind, damage.pointer) for damage in attempts if damage.accepted}
    unmended = {(damage.kind, damage.pointer) for damage in attempts} - mended
    assert {kind for kind, _ in mended} == {*KINDS, "HorizontalPodAutoscaler"}
    surprising = {one for one in unmended if not re.fullmatch(REFUSED.get(one[0], ""), one[1])}
    assert not surprising
    for name in everything:
        assert api.get("Deployment", name, namespace)["spec"]["paused"] is True, "a foreign field was lost"


def test_what_is_damaged_together_is_restored(scene: Scene, namespace: str, everything: list[str]) -> None:
    vandal = Vandal(scene, namespace, "Deployment", everything[0])
    for patch in TOGETHER.values():
        assert vandal.is_restored_after(patch)


def test_every_object_that_is_deleted_comes_back(api: Api, namespace: str, everything: list[str]) -> None:
    names = {kind: _named(kind, everything[0]) for kind in KINDS}
    old = {kind: api.get(kind, name, namespace) for kind, name in names.items()}
    for kind, name in names.items():
        api.delete(kind, name, namespace)
    for kind, name in names.items():
        uid = old[kind]["metadata"]["uid"]
        new = api.wait(kind, name, lambda obj, uid=uid: obj["metadata"]["uid"] != uid, namespace)
        assert {leaf.pointer for leaf in leaves_of(new)} == {leaf.pointer for leaf in leaves_of(old[kind])}
