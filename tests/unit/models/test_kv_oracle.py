"""Every case that vLLM 0.33.0 itself planned, model by model: equal to the byte."""

from __future__ import annotations

import pytest
from tests.unit.models.kv_oracle import POOL_BYTES, Case, oracle, oracle_facts

from vllm_operator.models.kv import KvLayout, kv_layout
from vllm_operator.models.settings import resolve_settings
from vllm_operator.models.validity import kernel_problems, parallelism_problems

MODELS = sorted(oracle()[1])


@pytest.mark.parametrize("model", MODELS)
def test_cache_is_laid_out_as_vllm_lays_it_out(model: str) -> None:
    wrong = [
        (str(case), expected, got)
        for case in oracle()[1][model]
        for expected, got in [(case.expected, computed(case))]
        if expected != got
    ]
    assert wrong == []


def test_oracle_holds_every_kind_of_case() -> None:
    cases = [case for own in oracle()[1].values() for case in own]
    assert len(cases) > 2800
    assert sum(case.expected is None for case in cases) > 80
    assert {case.gpu for case in cases} == {"H100 80GB HBM3", "H200", "A100-SXM4-80GB", "L4", "B200"}
    assert {case.pipeline_parallel_size for case in cases} == {1, 2, 3}


def computed(case: Case) -> object:
    facts = oracle_facts(case.model)
    refused = parallelism_problems(facts, case.settings) or kernel_problems(facts, case.settings, case.device)
    if refused:
        return None if case.expected is None else refused
    resolved = resolve_settings(facts, case.settings, case.device)
    layout = kv_layout(facts, resolved)
    length = resolved.max_model_len
    if isinstance(case.expected, dict):
        return in_short(case.expected, layout, length, block_size=resolved.block_size)
    head = [
        resolved.dtype,
        resolved.kv_cache_dtype,
        resolved.max_num_batched_tokens,
        resolved.max_num_seqs,
        resolved.max_in_flight_tokens,
        int(resolved.enable_prefix_caching),
        resolved.block_size,
    ]
    if not layout.groups:
        return [*head, None]
    groups = [
        [group.layers, group.stage_bytes[0], group.blocks_one_sequence(length, in_flight=layout.in_flight_tokens)]
        for group in layout.groups
    ]
    return [*head, layout.bytes_per_block, layout.bytes_one_sequence(length), sorted(groups), capacity(layout, length)]


def capacity(layout: KvLayout, length: int) -> list[float]:
    found = layout.capacity(POOL_BYTES, length)
    if not found.fits:
        return [found.estimated_max_model_len]
    return [found.num_blocks, found.tokens, found.max_concurrency]


def in_short(expected: dict[str, object], layout: KvLayout, length: int, *, block_size: int) -> dict[str, object]:
    found = capacity(layout, length)
    figures: dict[str, object] = {
        "block_size": block_size,
        "in_flight": layout.in_flight_tokens,
        "gib": round(layout.bytes_one_sequence(length) / 2**30, 3),
        "stages": list(layout.bytes_per_block_by_stage),
        "layers": [group.layers for group in layout.groups],
        "capacity": found if "stages" in expected or len(found) == 1 else found[1:],
    }
    return {name: figures[name] for name in expected}
