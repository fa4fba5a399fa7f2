from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.controlplane.client import Api
from tests.node import build, gpus, machine, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.node.node import RealNode
    from tests.node.scene import NodeScene


@pytest.fixture(scope="session")
def node_machine() -> None:
    """A machine that a node can run on. In CI its lack is a failure; elsewhere it is a skip that says what to do."""
    required = bool(os.environ.get("CI"))
    if found := machine.hindrances():
        said = f"no node can run here: {'; '.join(found)}"
        assert not required, said
        pytest.skip(said)
    if not required and not build.binaries().are_complete():
        pytest.skip("the node is not built: run `python -m tests.node build` once")
    build.ensure_binaries()


@pytest.fixture(scope="session")
def node(node_machine: None) -> Iterator[RealNode]:
    """A real node with GPUs that do not exist."""
    from tests.node.node import RealNode

    with RealNode() as found:
        gpus.pretend(Api(found))
        yield found


@pytest.fixture(scope="session")
def scene(node: RealNode) -> Iterator[NodeScene]:
    """The chart's objects on the node, and a running operator that knows models from its catalogue alone."""
    from tests.node.scene import NodeScene

    stage = NodeScene(node, environment={"VLLM_OPERATOR_HUB_ENABLED": "false"})
    try:
        stage.install()
        stage.start_operator()
        stage.install_webhook()
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="session")
def models(scene: NodeScene) -> None:
    """Every model of `served`, applied at once to a namespace that enforces Pod Security `restricted`."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    scene.api.create(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": served.NAMESPACE, "labels": labels}}
    )
    for model in served.applied().values():
        scene.api.create(model)
