"""Kubernetes quantities are read exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest

from vllm_operator.api.quantity import QuantityError, parse_bytes, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [("40Gi", 40 * 2**30), ("1.5Ki", 1536), ("2", 2), ("10G", 10**10), ("0.1k", 100), ("1500m", 1)],
)
def test_a_quantity_becomes_whole_bytes(text: str, value: int) -> None:
    assert parse_bytes(text) == value


def test_thousandths_stay_exact() -> None:
    assert parse_quantity("1500m") == Decimal("1.5")


@pytest.mark.parametrize("text", ["", "Gi", "40 Gi", "-1", "40GB", "1e3x", "0x10", "1" * 40])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="not a quantity"):
        parse_quantity(text)
