from __future__ import annotations

import os

import pytest
from tests.node import build, machine


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
