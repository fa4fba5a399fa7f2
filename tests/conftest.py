"""Options and fixtures that all tests share."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

# CI tries the same examples each time: a failure there is a change's fault. Everywhere else new ones are looked for.
# A busy machine is nobody's fault: what takes long is guarded by counts and by pytest's own timeout.
settings.register_profile("vllm-operator", derandomize=bool(os.environ.get("CI")), deadline=None)
settings.load_profile("vllm-operator")

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.given import GivenCluster
    from tests.controlplane.plane import ControlPlane
    from tests.controlplane.scene import Scene
    from tests.hub.server import HubServer


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites golden files."""
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files; review the diff like code")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the operator's log with each failure on the plane."""
    report: pytest.TestReport = yield
    given = getattr(item, "funcargs", {})
    scene = given.get("behind") or given.get("bare") or given.get("scene")
    if report.failed and scene is not None:
        report.sections.append(("operator log", scene.operator_log()[-4000:]))
    return report


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


def _built_or_skip() -> None:
    """In CI a missing control plane is a failure; elsewhere it is a skip that says what to do."""
    from tests.controlplane import build
    from tests.controlplane.given import given_kubeconfig

    if given_kubeconfig() or build.is_built() or os.environ.get("REQUIRE_CONTROL_PLANE"):
        return
    pytest.skip("the control plane is not built: run `make cluster-up` once, or set REQUIRE_CONTROL_PLANE=1")


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane | GivenCluster]:
    """One real control plane for the whole run: our own, or the one that KUBECONFIG_TEST names."""
    from tests.controlplane.given import GivenCluster, given_kubeconfig
    from tests.controlplane.plane import ControlPlane

    _built_or_skip()
    kubeconfig = given_kubeconfig()
    with GivenCluster(kubeconfig) if kubeconfig else ControlPlane(audit=True) as plane:
        yield plane


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    """A small Hub with the models that the tests ask for."""
    from tests.hub.server import HubModel, HubServer
    from tests.plane.models import PUBLIC_MODELS, config_of

    with HubServer() as server:
        for model in PUBLIC_MODELS:
            server.models[model] = HubModel(files={"config.json": config_of(model)})
        server.models["test/gated"] = HubModel(files={"config.json": config_of(PUBLIC_MODELS[0])}, gated=True)
        yield server


@pytest.fixture(scope="session")
def scene(control_plane: ControlPlane | GivenCluster, hub: HubServer) -> Iterator[Scene]:
    """The plane with GPU nodes, the chart's objects, the webhook and a running operator."""
    from tests.controlplane.scene import Scene

    stage = Scene(control_plane, environment={"HF_ENDPOINT": hub.endpoint})
    try:
        stage.install()
        stage.add_nodes()
        stage.start_operator()
        stage.install_webhook()
        yield stage
    finally:
        stage.close()


@pytest.fixture
def api(scene: Scene) -> Api:
    """The API server as the administrator sees it."""
    return scene.api


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own; afterwards its GPUs are free again.

    Nothing waits for the namespace itself to go: one with graceful deletions takes Kubernetes 5 s.
    """
    name = f"t-{uuid.uuid4().hex[:8]}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    api.wait("Namespace", name, lambda obj: obj["status"].get("phase") == "Active")
    yield name
    for kind in ("VLLMDeployment", "Deployment", "Pod"):
        left = [obj["metadata"]["name"] for obj in api.list(kind, name)]
        for left_name in left:
            api.delete(kind, left_name, name)
        for left_name in left:
            api.wait_gone(kind, left_name, name)
    api.delete("Namespace", name)
