"""The pictures of our objects and of the VLLMDeployments, with watches that lag and lists that overtake."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.test_reconciler import resource

from vllm_operator.runtime.children import Children, covers
from vllm_operator.runtime.resources import Resources
from vllm_operator.runtime.status import canonical

DEPLOYMENT = ("Deployment", "model")


def child(version: int = 1, namespace: str = "team", **spec: Any) -> dict[str, Any]:
    owner = {"kind": "VLLMDeployment", "name": "model", "uid": "cr-1", "controller": True}
    return {
        "kind": "Deployment",
        "metadata": {
            "name": "model",
            "namespace": namespace,
            "uid": "d-1",
            "resourceVersion": str(version),
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def test_what_is_older_than_what_is_known_changes_nothing() -> None:
    children = Children()
    assert children.upsert(child(7, replicas=2)) == "team/model"
    assert children.upsert(child(6, replicas=1)) is None
    assert children.upsert(child(7, replicas=2)) is None
    assert children.remove(child(6)) is None
    assert children.of("team/model")[DEPLOYMENT].version == 7
    assert children.upsert(child(8, replicas=1)) == "team/model"


def test_a_list_that_a_write_has_overtaken_does_not_take_its_object_away() -> None:
    children = Children()
    children.upsert(child(7))
    assert children.replace("Deployment", None, [], 6) == set()
    assert children.of("team/model")
    assert children.replace("Deployment", None, [], 8) == {"team/model"}
    assert not children.of("team/model")


def test_the_answer_to_a_write_does_not_bring_back_what_was_deleted_meanwhile() -> None:
    children = Children()
    children.upsert(child(5))
    assert children.remove(child(9)) == "team/model"
    assert children.upsert(child(7)) is None
    assert not children.of("team/model")
    assert children.upsert(child(11)) == "team/model"


@pytest.mark.parametrize(
    "references",
    [
        pytest.param([], id="removed"),
        pytest.param([{"kind": "Other", "name": "model", "uid": "cr-1", "controller": True}], id="kind"),
        pytest.param([{"kind": "VLLMDeployment", "name": "other", "uid": "cr-1", "controller": True}], id="name"),
        pytest.param([{"kind": "VLLMDeployment", "name": "model", "uid": "cr-1"}], id="controller"),
    ],
)
def test_an_object_whose_owner_reference_was_edited_is_missing_for_its_owner(references: list[dict[str, Any]]) -> None:
    children = Children()
    children.upsert(child(5))
    edited = child(6)
    edited["metadata"]["ownerReferences"] = references

    assert children.upsert(edited) == "team/model"
    assert not children.of("team/model")

    assert children.upsert(child(7)) is not None
    assert children.of("team/model")[DEPLOYMENT].version == 7
    assert not children.of("team/other")


def test_a_list_of_one_namespace_says_nothing_of_another() -> None:
    children = Children()
    children.upsert(child(namespace="team"))
    children.upsert(child(namespace="other"))
    assert children.replace("Deployment", "team", [], 9) == {"team/model"}
    assert children.of("other/model")


def test_only_a_change_with_meaning_concerns_the_owner() -> None:
    children = Children()
    assert children.upsert(child(1, replicas=1)) == "team/model"
    assert children.upsert(child(2, replicas=1)) is None
    assert children.upsert(child(3, replicas=2)) == "team/model"


def test_labels_of_a_resource_concern_nobody() -> None:
    resources = Resources()
    assert resources.upsert(resource()) == "team/model"
    labelled = resource(version=2)
    labelled["metadata"]["labels"] = {"a": "b"}
    assert resources.upsert(labelled) is None


def answer(**metadata: Any) -> dict[str, Any]:
    """Return what the API server answers to a status: the metadata."""
    return {"metadata": resource(**metadata)["metadata"]}


def test_a_status_that_was_written_is_known_without_its_echo() -> None:
    resources = Resources()
    resources.upsert(resource(version=1))
    echo = {**resource(version=5), "status": {"verdict": "Fits"}}
    assert not resources.has(echo)
    resources.wrote_status("team/model", answer(version=5), echo["status"], canonical(echo["status"]))
    stored = resources.get("team/model")
    assert stored is not None
    assert (stored.version, stored.standing.verdict, stored.body()["spec"]) == (5, "Fits", resource()["spec"])
    assert resources.has(echo)
    assert not resources.has(resource(uid="cr-2", version=5)), "made anew"
    assert not resources.has(resource(version=6))
    assert not resources.has({**echo, "metadata": {**echo["metadata"], "name": "other"}})


DELETED_MEANWHILE = answer(version=5)
DELETED_MEANWHILE["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "answered",
    [
        pytest.param(answer(version=5, generation=2), id="edited"),
        pytest.param(DELETED_MEANWHILE, id="being-deleted"),
        pytest.param({"metadata": {"resourceVersion": "5"}}, id="says-nothing"),
    ],
)
def test_an_object_that_changed_under_a_status_is_awaited(answered: dict[str, Any]) -> None:
    resources = Resources()
    resources.upsert(resource(version=1))
    resources.wrote_status("team/model", answered, {"verdict": "Fits"}, '{"verdict":"Fits"}')
    stored = resources.get("team/model")
    assert stored is not None
    assert stored.version == 1
    assert resources.status_of("team/model") == '{"verdict":"Fits"}', "which is not written twice"
    edited = {**resource(version=4, generation=2, replicas=3), "status": {}}
    assert resources.upsert(edited) == "team/model"
    assert resources.status_of("team/model") == '{"verdict":"Fits"}', "the watch lags behind"


def test_a_status_that_the_watch_brought_before_the_answer_changes_nothing() -> None:
    resources = Resources()
    resources.upsert(resource(version=1))
    resources.upsert({**resource(version=6), "status": {"verdict": "DoesNotFit"}})
    before = resources.get("team/model")
    resources.wrote_status("team/model", answer(version=5), {"verdict": "Fits"}, '{"verdict":"Fits"}')
    assert resources.get("team/model") is before
    assert resources.status_of("team/model") == '{"verdict":"DoesNotFit"}'


def test_the_echo_of_our_own_status_concerns_nobody_and_another_status_does() -> None:
    resources = Resources()
    resources.upsert(resource(version=1))
    ours = {"observedGeneration": 1, "feasibility": {"headroomGb": 80.0}}
    resources.wrote_status("team/model", answer(version=5), ours, canonical(ours))
    echo = {"observedGeneration": 1, "feasibility": {"headroomGb": 80}}
    assert resources.upsert({**resource(version=5), "status": echo}) is None
    assert resources.upsert({**resource(version=6), "status": {"observedGeneration": 1}}) == "team/model"


def test_a_list_of_what_is_known_makes_nothing_anew() -> None:
    resources = Resources()
    obj = {**resource(version=5), "status": {"verdict": "Fits"}}
    resources.upsert(obj)
    key, stored = resources.listed(obj)
    assert stored is resources.get(key)


def test_the_echo_of_our_own_status_shares_the_spec_and_the_status_that_are_known() -> None:
    resources = Resources()
    resources.upsert(resource(version=1))
    ours = {"verdict": "Fits", "warnings": ["one"]}
    resources.wrote_status("team/model", answer(version=5), ours, canonical(ours))
    before, (_, echo) = resources.get("team/model"), resources.listed({**resource(version=5), "status": ours})
    assert before is not None
    assert echo.packed is before.packed
    assert (echo.version, echo.standing.verdict) == (5, "Fits")
    resources.upsert({**resource(version=5), "status": ours})
    assert json.loads(resources.status_of("team/model")) == ours


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(resource(generation=2, version=2, replicas=3), id="generation"),
        pytest.param(resource(uid="cr-2", version=2, replicas=3), id="made-anew"),
        pytest.param(resource(uid="cr-2", replicas=3), id="made-anew-at-a-version-that-was-seen"),
        pytest.param(resource(generation=0, version=2, replicas=3), id="no-generation"),
    ],
)
def test_a_spec_that_may_be_another_is_taken(changed: dict[str, Any]) -> None:
    resources = Resources()
    resources.upsert(resource(version=1))
    _, stored = resources.listed(changed)
    assert stored.body()["spec"]["replicas"] == 3


def test_the_mark_of_a_deletion_is_taken() -> None:
    resources = Resources()
    resources.upsert(resource(version=1))
    marked = resource(version=2)
    marked["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert resources.upsert(marked) == "team/model"
    stored = resources.get("team/model")
    assert stored is not None
    assert (stored.deleting, "deletionTimestamp" in stored.body()["metadata"]) == (True, True)


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.sampled_from([80.0, 1e21, -0.0, 1.5e16])
values = st.recursive(
    numbers | st.text(alphabet='0123456789.e+-,:[]"', max_size=9) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(status=st.dictionaries(st.text(max_size=3), values, max_size=4))
def test_no_whole_number_is_written_as_a_fraction_and_no_text_is_changed(status: dict[str, Any]) -> None:
    text = canonical(status)
    assert json.loads(text) == status

    def refuse_whole(number: str) -> float:
        assert not float(number).is_integer()
        return float(number)

    json.loads(text, parse_float=refuse_whole)


def test_a_body_is_decoded_once_for_all_who_ask_for_it_in_one_reconcile() -> None:
    children = Children()
    children.upsert(child(1, replicas=1))
    known = children.of("team/model")[DEPLOYMENT]
    for number in range(100):
        children.upsert(child(1, namespace=f"other-{number}"))
    assert known.body()["spec"] == {"replicas": 1}
    assert known.body() is known.body()
    children.upsert(child(2, replicas=2))
    assert children.of("team/model")[DEPLOYMENT].body()["spec"] == {"replicas": 2}


def test_a_list_that_was_overtaken_by_the_watch_changes_nothing() -> None:
    resources = Resources()
    resources.upsert(resource(generation=2, version=9))
    assert resources.upsert(resource(generation=1, version=3)) is None
    assert resources.replace(None, [], 3) == set()
    assert "team/model" in resources


def test_a_deletion_that_the_watch_missed_is_found_by_the_list() -> None:
    resources = Resources()
    resources.upsert(resource(version=3))
    assert resources.replace("elsewhere", [], 9) == set()
    assert resources.replace("team", [], 9) == {"team/model"}
    assert len(resources) == 0


def test_a_list_from_before_a_deletion_does_not_bring_the_resource_back() -> None:
    resources = Resources()
    resources.upsert(resource(version=5))
    resources.remove(resource(version=7))
    assert resources.replace(None, [resources.listed(resource(version=5))], 6) == set()
    assert "team/model" not in resources
    assert resources.upsert(resource(version=5)) is None, "nor does a watch that has to begin again"


def test_a_list_from_before_a_resource_was_made_anew_does_not_bring_its_predecessor_back() -> None:
    resources = Resources()
    resources.upsert(resource(version=9, uid="cr-2"))
    assert resources.replace(None, [resources.listed(resource(version=5))], 6) == set()
    stored = resources.get("team/model")
    assert stored is not None
    assert stored.uid == "cr-2"


def test_deletions_are_remembered_no_longer_than_until_a_newer_list() -> None:
    resources, children = Resources(), Children()
    for number in range(1, 1000, 2):
        resources.upsert(resource(version=number, uid=f"cr-{number}"))
        resources.remove(resource(version=number + 1, uid=f"cr-{number}"))
        children.upsert(child(number, namespace=f"team-{number}"))
        children.remove(child(number + 1, namespace=f"team-{number}"))
    assert children.was_deleted("team-1/model", DEPLOYMENT)
    resources.replace(None, [], 2000)
    children.replace("Deployment", None, [], 2000)
    assert resources.entries() == children.entries() == 0


def test_the_deletion_of_a_predecessor_does_not_take_its_successor_along() -> None:
    resources = Resources()
    resources.upsert(resource(uid="new", version=9))
    assert resources.remove(resource(uid="old", version=8)) is None
    assert "team/model" in resources


@pytest.mark.parametrize(
    ("observed", "wanted"),
    [
        ({"memory": "9Gi"}, {"memory": "9216Mi"}),
        ({"a": 1, "defaulted": 2}, {"a": 1}),
        ({"env": [{"name": "injected"}, {"name": "x", "value": "1"}]}, {"env": [{"name": "x", "value": "1"}]}),
        ({}, {"value": ""}),
    ],
)
def test_what_the_api_server_or_others_add_is_no_difference(observed: Any, wanted: Any) -> None:
    assert covers(observed, wanted)


@pytest.mark.parametrize(
    ("observed", "wanted"),
    [
        ({"a": 2}, {"a": 1}),
        ({}, {"a": 1}),
        (["--a", "--b"], ["--a"]),
        ([{"name": "y"}], [{"name": "x"}]),
        ({"flag": False}, {"flag": True}),
    ],
)
def test_what_is_wanted_and_not_there_is_a_difference(observed: Any, wanted: Any) -> None:
    assert not covers(observed, wanted)


json_objects = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(json_objects)
def test_everything_covers_itself(value: Any) -> None:
    assert covers(value, value)
