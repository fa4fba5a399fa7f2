"""Every rendered kind as the real API server takes it: under strict validation, and a second time without a change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.controlplane import foreign_kinds

from vllm_operator.render.labels import MANAGER
from vllm_operator.runtime.children import covers
from vllm_operator.runtime.kube import BY_KIND
from vllm_operator.runtime.pinning import stamped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.client import Api
    from tests.controlplane.scene import Scene

pytestmark = pytest.mark.control_plane

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "render"
CASES = sorted(path.name for path in GOLDEN.iterdir())


def _rendered(case: str) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = list(yaml.safe_load_all((GOLDEN / case / "objects.yaml").read_text()))
    return objects


@pytest.fixture(scope="module")
def foreign_on_bare(_bare_plane: Scene) -> Iterator[None]:
    """Nothing but the API server looks at these objects: no operator and no controller runs there."""
    foreign_kinds.install(_bare_plane.api, foreign_kinds.ALL)
    yield
    foreign_kinds.remove(_bare_plane.api, foreign_kinds.ALL)


@pytest.mark.parametrize("case", CASES)
def test_rendered_objects_are_accepted_strictly_and_applied_again_without_a_change(
    bare: Scene, bare_namespace: str, foreign_on_bare: None, case: str
) -> None:
    resource: dict[str, Any] = yaml.safe_load((GOLDEN / case / "cr.yaml").read_text())
    resource["metadata"]["namespace"] = bare_namespace
    uid = bare.api.create(resource)["metadata"]["uid"]
    for rendered in _rendered(case):
        rendered["metadata"]["namespace"] = bare_namespace
        rendered["metadata"]["ownerReferences"][0]["uid"] = uid
        obj = stamped(rendered)
        bare.api.create(obj, dry_run=True)
        first = _applied(bare.api, obj)
        if obj["kind"] == "PersistentVolumeClaim":
            # The API server stores a claim once more at its second apply, with nothing in it that differs.
            stored_again = _applied(bare.api, obj)
            assert _content(stored_again) == _content(first)
            first = stored_again
        assert _applied(bare.api, obj) == first, obj["kind"]
        # What the operator asks itself before it writes: is everything there that is wanted?
        assert covers(first, obj), obj["kind"]


def test_every_kind_that_the_operator_makes_is_among_them() -> None:
    made = {obj["kind"] for case in CASES for obj in _rendered(case)}
    assert made == set(BY_KIND)


def _applied(api: Api, obj: dict[str, Any]) -> dict[str, Any]:
    api.apply(obj, manager=MANAGER)
    return api.get(obj["kind"], obj["metadata"]["name"], obj["metadata"]["namespace"])


def _content(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    return {**obj, "metadata": metadata}
