"""Observations as they are kept and exchanged: what can be true survives the way there and back, the rest is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.api.observations import (
    LARGEST_DOCUMENT_BYTES,
    MOST_OBSERVATIONS,
    Observation,
    read_observations,
    write_observations,
)

ENTRY: dict[str, Any] = {
    "key": {
        "model": "org/model",
        "revision": "0123abc",
        "engineVersion": "0.33.0",
        "image": "vllm/vllm-openai:v0.33.0",
        "resourceName": "nvidia.com/gpu",
        "gpuProduct": "NVIDIA-L4",
        "gpuMemoryBytes": 24_152_899_584,
        "tensorParallelSize": 2,
        "settings": ["gpu-memory-utilization=0.9", "max-model-len=8192"],
    },
    "kvCacheTokens": 90_000,
    "mostKvCacheTokens": 90_016,
    "kvCacheBytes": 11_796_480_000,
    "predictedKvCacheTokens": 91_000,
    "predictedKvCacheBytes": 11_927_552_000,
    "predictedBy": "0.1.0",
    "observedAt": "2026-11-01T10:00:00Z",
    "source": "team/model",
}


def document(*entries: object, **others: object) -> str:
    return json.dumps({"format": 1, "observations": list(entries), **others})


def test_what_is_written_is_read_back() -> None:
    (found,), problems = read_observations(document(ENTRY))
    assert problems == ()
    assert read_observations(write_observations([found])) == ((found,), ())


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "zero tokens": {"kvCacheTokens": 0},
    "negative": {"kvCacheTokens": -5},
    "NaN": {"kvCacheTokens": float("nan")},
    "infinite": {"kvCacheBytes": float("inf")},
    "absurd": {"mostKvCacheTokens": 10**30},
    "the most below the least": {"mostKvCacheTokens": 5},
    "more than the GPU": {"kvCacheBytes": 10**12},
    "predicted more than the GPU": {"predictedKvCacheBytes": 10**12},
    "a word": {"kvCacheTokens": "many"},
    "no key": {"key": None},
    "a long name": {"source": "x" * 5000},
    "no time": {"observedAt": "yesterday"},
    "an empty key": {"key": {}},
}


@pytest.mark.parametrize("change", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_an_observation_that_cannot_be_true_is_left_out_and_named(change: dict[str, Any]) -> None:
    found, problems = read_observations(document({**ENTRY, **change}, ENTRY))
    assert len(found) == 1
    (problem,) = problems
    assert problem.startswith("observation 1 is ignored: ")
    assert len(problem) < 600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"format": 2, "observations": []}',
        '{"format": 1, "observations": {}}',
        "[" * 100_000,
        '{"format": 1, "observations": [' + " " * 2 * LARGEST_DOCUMENT_BYTES + "]}",
    ],
    ids=["empty", "null", "list", "object", "newer", "mapping", "deep", "huge"],
)
def test_what_is_no_such_document_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - which of the ways it is none does not matter
        read_observations(text)


def test_more_than_are_kept_are_not_read() -> None:
    found, problems = read_observations(document(*[ENTRY] * (MOST_OBSERVATIONS + 3)))
    assert len(found) == MOST_OBSERVATIONS
    assert problems == (f"3 observations beyond {MOST_OBSERVATIONS} are ignored",)


def test_a_document_fits_into_a_config_map_and_the_oldest_are_what_it_lacks() -> None:
    (one,), _ = read_observations(document(ENTRY))
    settings = tuple(f"{number:04}={'x' * 500}" for number in range(8))
    many = [
        one.model_copy(
            update={
                "key": one.key.model_copy(update={"revision": f"{number:07}", "settings": settings}),
                "observed_at": f"2026-11-01T{number // 60:02}:{number % 60:02}:00Z",
            }
        )
        for number in range(600)
    ]
    text = write_observations(many)
    assert len(text.encode()) <= LARGEST_DOCUMENT_BYTES
    kept, _ = read_observations(text)
    assert [found.key.revision for found in kept] == [f"{599 - number:07}" for number in range(len(kept))]
    assert 100 < len(kept) < MOST_OBSERVATIONS


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*ENTRY, *ENTRY["key"], "format"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused(content: Any) -> None:
    for text in (json.dumps(content), document(content), document({**ENTRY, "key": content})):
        try:
            found, _ = read_observations(text)
        except ValueError:
            continue
        assert all(isinstance(one, Observation) and one.kv_cache_tokens > 0 for one in found)
