"""Tolerant readers: right where it can be read, absent where not."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.cluster import reading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        (8, 8),
        ("1500m", Fraction(3, 2)),
        ("40Gi", 40 * 2**30),
        ("1.5Gi", 3 * 2**29),
        ("128974848", 128974848),
        ("129e6", 129_000_000),
        ("129M", 129_000_000),
        ("1E", 10**18),
        ("12e3", 12_000),
        (1.5, Fraction(3, 2)),
        ("0", 0),
    ],
)
def test_quantities_are_exact(text: object, value: int | Fraction) -> None:
    assert reading.quantity(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "abc", "-1", "1.2.3", "Gi", "1e999999999", "nan", "inf", "1/2", "1_000", True, None, [], "1Xi", "９", "10E"],
)
def test_what_is_no_quantity_is_absent(text: object) -> None:
    assert reading.quantity(text) is None


def test_needs_round_up_and_haves_round_down() -> None:
    assert (reading.needed_quantity("1500m"), reading.whole_quantity("1500m")) == (2, 1)


@given(st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.none(), st.booleans()))
def test_reading_never_raises(value: object) -> None:
    for read in (reading.quantity, reading.whole_quantity, reading.thousandths, reading.whole_number, reading.text):
        read(value)


def test_unquoted_yaml_labels_read_as_what_was_meant() -> None:
    assert reading.strings({"a": True, "b": 8, "c": "x", "d": None, "e": [1], 5: "y"}) == {
        "a": "true",
        "b": "8",
        "c": "x",
    }
