"""The image is built from the Dockerfile with buildah, with no daemon and no registry (`make image-test`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.image.build import base_image, buildah, operator_image

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGE = "localhost/vllm-operator:test"
SIZE_BUDGET_BYTES = 600 * 1024**2
"""The official kubernetes client alone is 126 MB unpacked; the Debian base with Python is 225 MB."""

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]


@pytest.fixture(scope="session")
def image() -> str:
    return operator_image(base_image(), tag=IMAGE, version="0.0.0+test")


@pytest.fixture(scope="session")
def container(image: str) -> Iterator[str]:
    name = buildah("from", "--pull=never", image)
    yield name
    buildah("rm", name)


def inside(container: str, *command: str) -> str:
    return buildah("run", container, "--", *command)


def test_the_command_answers(container: str) -> None:
    assert "plan" in inside(container, "vllm-operator", "--help")


def test_the_standard_library_is_not_shadowed_by_the_source_folder(container: str) -> None:
    inside(container, "python", "-c", "import operator, vllm_operator; operator.itemgetter; vllm_operator.__version__")


def test_it_runs_as_a_number_that_is_not_root_and_cannot_write_outside_tmp(container: str) -> None:
    assert inside(container, "id", "-u") == "65532"
    probe = "import os; print(os.access('/', os.W_OK), os.access('/opt/venv', os.W_OK), os.access('/tmp', os.W_OK))"
    assert inside(container, "python", "-c", probe) == "False False True"


def test_no_installer_is_left_inside(container: str) -> None:
    probe = "import importlib.util as u; print(u.find_spec('pip'))"
    assert inside(container, "python", "-c", probe) == "None"


def test_it_says_what_it_is(image: str) -> None:
    config = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["vllm-operator"]
    assert config["Labels"]["org.opencontainers.image.version"] == "0.0.0+test"


def test_it_stays_within_its_size_budget(container: str) -> None:
    kibibytes = sum(int(line.split()[0]) for line in inside(container, "du", "-skx", "/usr", "/opt").splitlines())
    assert kibibytes * 1024 <= SIZE_BUDGET_BYTES, f"{kibibytes / 1024:.0f} MiB"
