"""A control plane of its own for tests that break things: no kubelets, GPU nodes that nobody keeps, no webhook."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import yaml
from tests.controlplane.plane import ControlPlane
from tests.controlplane.scene import NODES, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.controlplane.client import Object


@contextmanager
def bare_scene(environment: Mapping[str, str]) -> Iterator[Scene]:
    """Yield API server, etcd and garbage collector with the chart's objects and the nodes; no operator runs yet."""
    with ControlPlane(with_nodes=False, audit=True) as plane:
        scene = Scene(plane, environment=environment)
        try:
            scene.install()
            plane.start_collector()
            for node in yaml.load_all(NODES.read_text(), yaml.CSafeLoader):
                add_node(scene, node)
            yield scene
        finally:
            scene.close()


def add_node(scene: Scene, node: Object) -> None:
    """Create a node as a kubelet that is up would have it: without the taint that new nodes get."""
    scene.api.create(node)
    scene.api.patch("Node", node["metadata"]["name"], {"spec": {"taints": node["spec"].get("taints", [])}})
