"""Speed: bounds that the hardware sets, and silence where they would mislead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.planning.fleets import LLAMA_8B, LLAMA_70B, facts, inventory, node, spec

from vllm_operator.planning.decide import plan

if TYPE_CHECKING:
    from vllm_operator.planning.performance import Performance

H100 = inventory(node("H100", "h", 8))


def speed(model: str = LLAMA_8B, cluster: Any = H100, **sections: Any) -> Performance | None:
    return plan(spec(model, **({"workload": {"contextLength": 2048}} | sections)), facts(model), cluster).performance


def test_no_token_is_faster_than_reading_the_weights() -> None:
    found = speed()
    assert found is not None
    fast, slow = found.seconds_per_token
    assert fast > 16.06e9 / 3.35e12
    assert slow < 4 * fast


def test_more_sequences_give_more_tokens_and_slower_ones() -> None:
    one, many = speed(), speed(workload={"contextLength": 2048, "concurrency": 32})
    assert one is not None
    assert many is not None
    assert many.seconds_per_token[0] > one.seconds_per_token[0]
    assert many.tokens_per_second[1] > one.tokens_per_second[1]


def test_tensor_parallelism_makes_a_token_faster() -> None:
    two = speed(LLAMA_70B, engine={"tensorParallelSize": 4})
    four = speed(LLAMA_70B, engine={"tensorParallelSize": 8})
    assert two is not None
    assert four is not None
    assert four.seconds_per_token[0] < two.seconds_per_token[0]


def test_the_first_token_needs_a_stated_prompt() -> None:
    assert speed().seconds_to_first_token is None  # type: ignore[union-attr]
    found = speed(workload={"contextLength": 2048, "promptTokens": 1024})
    assert found is not None
    assert found.seconds_to_first_token is not None
    soon, late = found.seconds_to_first_token
    assert 2 * 8.03e9 * 1024 / 989.4e12 < soon < late


@pytest.mark.parametrize(
    ("model", "sections"),
    [
        pytest.param("Qwen/Qwen3-30B-A3B", {}, id="mixture-of-experts"),
        pytest.param("Qwen/Qwen2.5-7B-Instruct-AWQ", {}, id="quantized"),
        pytest.param(LLAMA_8B, {"engine": {"quantization": "fp8"}}, id="quantized-by-request"),
        pytest.param("BAAI/bge-m3", {}, id="embedding"),
    ],
)
def test_nothing_is_said_where_it_would_mislead(model: str, sections: dict[str, Any]) -> None:
    assert speed(model, **sections) is None
