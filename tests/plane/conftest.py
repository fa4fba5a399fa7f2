"""A plane of their own for the tests that break things."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from tests.plane.machines import node_is_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene
    from tests.hub.server import HubServer


@pytest.fixture(scope="session")
def _bare_plane(hub: HubServer) -> Iterator[Scene]:
    from tests.controlplane import build
    from tests.controlplane.bare import bare_scene

    if not build.is_built() and not os.environ.get("REQUIRE_CONTROL_PLANE"):
        pytest.skip("the control plane is not built: run `make cluster-up` once, or set REQUIRE_CONTROL_PLANE=1")
    with bare_scene({"HF_ENDPOINT": hub.endpoint}) as scene:
        yield scene


@pytest.fixture
def bare(_bare_plane: Scene) -> Iterator[Scene]:
    """API server, etcd and garbage collector that a test may stop and deceive; no operator runs before or after."""
    yield _bare_plane
    if _bare_plane.process is not None:
        _bare_plane.stop_operator(kill=True)


@pytest.fixture
def bare_namespace(bare: Scene) -> Iterator[str]:
    """A namespace of the test's own on that plane, and nothing in it that the next test's operator would look after."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    bare.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    # No controller empties a namespace on that plane.
    bare.api.delete_all("VLLMDeployment", name)
    bare.api.delete("Namespace", name)


@pytest.fixture(scope="module")
def foreign(scene: Scene) -> Iterator[None]:
    """The cluster has every kind of another project that is rendered, and the operator knows it from its start."""
    from tests.controlplane import foreign_kinds

    there = foreign_kinds.present(scene.api)
    ours = [kind for kind in foreign_kinds.CRDS if kind not in there]
    scene.stop_operator()
    foreign_kinds.install(scene.api, ours)
    scene.start_operator()
    yield
    scene.stop_operator()
    foreign_kinds.remove(scene.api, ours)
    scene.start_operator()


@pytest.fixture(scope="module")
def sets(scene: Scene) -> Iterator[None]:
    """The cluster serves LeaderWorkerSets, and the operator knows it from its start."""
    from tests.controlplane import foreign_kinds

    kind = "LeaderWorkerSet"
    ours = [] if foreign_kinds.present(scene.api, [kind]) else [kind]
    scene.stop_operator()
    foreign_kinds.install(scene.api, ours)
    scene.start_operator()
    yield
    scene.stop_operator()
    foreign_kinds.remove(scene.api, ours)
    scene.start_operator()


@pytest.fixture
def own_nodes(api: Api) -> Iterator[Callable[..., None]]:
    """Add nodes for one test, which takes this before its namespace: pods only go while their node is there."""
    added: list[str] = []

    def add(*nodes: dict[str, Any]) -> None:
        for node in nodes:
            added.append(node["metadata"]["name"])
            api.create(node)
        for node in nodes:
            api.wait("Node", node["metadata"]["name"], node_is_ready)

    yield add
    for name in added:
        api.delete("Node", name)
        api.wait_gone("Node", name)
