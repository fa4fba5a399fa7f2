from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.controlplane.client import Api
from tests.controlplane.tools import CHART
from tests.e2e.release import Release
from tests.image.build import base_image, buildah, operator_image
from tests.node import build, gpus, machine
from tests.node.node import RealNode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPOSITORY = "docker.io/vllm-operator/vllm-operator"
"""What the chart's default repository means to a container runtime."""
NEXT_TAG = "next"


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Two builds of the operator from the Dockerfile: the chart's own version, and another one to upgrade to."""
    folder = tmp_path_factory.mktemp("images")
    base = base_image()
    archives = []
    for tag in (chart_version(), NEXT_TAG):
        image = operator_image(base, tag=f"{REPOSITORY}:{tag}", version=f"0.0.0+{tag}")
        archives.append(folder / f"operator-{tag}.tar")
        buildah("push", "--quiet", image, f"docker-archive:{archives[-1]}:{image}")
        buildah("rmi", image)
    buildah("rmi", base)
    yield archives
    for archive in archives:
        archive.unlink()


@pytest.fixture(scope="session")
def node(builds: list[Path]) -> Iterator[RealNode]:
    """A real node with GPUs that do not exist, and both builds of the operator."""
    assert not (found := machine.hindrances()), "; ".join(found)
    build.ensure_binaries()
    with RealNode(images=builds) as started:
        gpus.pretend(Api(started))
        yield started


def chart_version() -> str:
    """Return the version of the operator that the chart installs by default."""
    (line,) = [line for line in (CHART / "Chart.yaml").read_text().splitlines() if line.startswith("appVersion:")]
    return line.split('"')[1]


@pytest.fixture(scope="session")
def release(node: RealNode) -> Release:
    """The chart, installed with default values."""
    found = Release(node)
    found.create_namespace()
    found.install()
    return found


@pytest.fixture
def api(node: RealNode) -> Api:
    """The API server as the administrator sees it."""
    return Api(node)
