"""Each way of installing the chart, judged whole by the real API server: strictly, and under Pod Security."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.chart.test_chart import VARIANTS
from tests.controlplane import foreign_kinds
from tests.controlplane.tools import helm_template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

WATCHED = ("team-a", "team-b")
"""Namespaces that the variant `namespaced` names."""
NOT_RESTRICTED = "node agent with its own ideas"
"""It shares the node's process IDs, as its user wants it to."""


@pytest.fixture(scope="module")
def cluster(_bare_plane: Scene) -> Iterator[Scene]:
    """A plane on which no operator runs, with every kind that a variant makes, and the namespaces that it names."""
    api, kinds = _bare_plane.api, ("PodMonitor", *foreign_kinds.OF_THE_CHART)
    foreign_kinds.install(api, kinds)
    for name in WATCHED:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield _bare_plane
    for name in WATCHED:
        api.delete("Namespace", name)
    foreign_kinds.remove(api, kinds)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_is_taken_strictly_and_every_pod_is_restricted(
    cluster: Scene, bare_namespace: str, variant: str
) -> None:
    namespace = bare_namespace
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    # The pod of `helm test` is refused where its account is not there yet, which a dry run does not make.
    cluster.kubectl("create", "serviceaccount", "judged", f"--namespace={namespace}")
    # A name of its own: another release of the chart is what runs on the plane.
    rendered = helm_template(*VARIANTS[variant], f"--namespace={namespace}", "--set=fullnameOverride=judged")

    done = cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", text=rendered, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("serverside-applied") == rendered.count("\nkind: ")
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning")]
    if variant == NOT_RESTRICTED:
        assert len(warnings) == 1
        assert "hostPID=true" in warnings[0]
    else:
        assert warnings == []
