from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.controlplane.client import Api
from tests.controlplane.tools import CHART
from tests.e2e.engine import Engines, make_model, write_engine_image
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
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where images are on their way into the node."""
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="session")
def node() -> Iterator[RealNode]:
    """A real node with GPUs that do not exist."""
    assert not (found := machine.hindrances()), "; ".join(found)
    build.ensure_binaries()
    with RealNode() as started:
        gpus.pretend(Api(started))
        yield started


@pytest.fixture(scope="session")
def release(node: RealNode, archives: Path) -> Release:
    """The chart, installed with default values; its image is built from the Dockerfile."""
    bring_operator(node, archives, tag=chart_version())
    found = Release(node)
    found.create_namespace()
    found.install()
    return found


@pytest.fixture(scope="session")
def next_build(node: RealNode, archives: Path) -> str:
    """The tag of a second build of the operator, to upgrade to."""
    bring_operator(node, archives, tag=NEXT_TAG)
    return NEXT_TAG


@pytest.fixture(scope="session")
def engines(release: Release, archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Engines:
    """Where real vLLM servers can run, with a tiny model."""
    archive = write_engine_image(archives / "engine.tar")
    release.node.import_image(archive)
    archive.unlink()
    models = tmp_path_factory.mktemp("models")
    models.chmod(0o755)
    make_model(models)
    found = Engines(release.node)
    found.prepare(models)
    return found


@pytest.fixture
def api(node: RealNode) -> Api:
    """The API server as the administrator sees it."""
    return Api(node)


def bring_operator(node: RealNode, archives: Path, *, tag: str) -> None:
    """Build the operator's image and give it to the node; nothing of it is left in buildah's store."""
    base = base_image()
    image = operator_image(base, tag=f"{REPOSITORY}:{tag}", version=f"0.0.0+{tag}")
    archive = archives / f"operator-{tag}.tar"
    buildah("push", "--quiet", image, f"docker-archive:{archive}:{image}")
    buildah("rmi", image, base)
    node.import_image(archive)
    archive.unlink()


def chart_version() -> str:
    """Return the version of the operator that the chart installs by default."""
    (line,) = [line for line in (CHART / "Chart.yaml").read_text().splitlines() if line.startswith("appVersion:")]
    return line.split('"')[1]
