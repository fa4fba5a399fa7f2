"""What an observation is filed under tells starts apart by their memory, and keeps no secret."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.planning.fleets import LLAMA_8B, facts, inventory, node, spec

from vllm_operator.planning.decide import plan
from vllm_operator.planning.flags import flags_of
from vllm_operator.planning.observation_keys import MEMORY_FLAGS, key_of

ONE_H100 = inventory(node("H100", "h100-0", 1))
SECRET = "hunter2-very-secret"


def key(model: str = LLAMA_8B, **sections: Any) -> Any:
    wanted = spec(model, **{"workload": {"contextLength": 8192}, **sections})
    return key_of(plan(wanted, facts(model), ONE_H100), wanted)


@pytest.mark.parametrize(
    "sections",
    [
        {"workload": {"contextLength": 4096}},
        {"policy": {"gpuMemoryUtilization": 0.8}},
        {"engine": {"maxNumSeqs": 32}},
        {"engine": {"enforceEager": True}},
        {"engine": {"version": "0.32.0"}},
        {"engine": {"image": "registry.example.com/vllm:v1"}},
        {"engine": {"extraArgs": ["--block-size", "32"]}},
        {"engine": {"extraArgs": ["--block-size=32"]}},
        {"engine": {"extraArgs": ["-O3"]}},
        {"engine": {"extraArgs": ["--compilation-config.mode", "3"]}},
        {"engine": {"extraArgs": ["--cudagraph-capture-sizes", "1", "2"]}},
        {"engine": {"env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}]}},
    ],
    ids=str,
)
def test_what_memory_depends_on_makes_another_key(sections: dict[str, Any]) -> None:
    assert key(**sections) != key()


@pytest.mark.parametrize(
    "sections",
    [
        {"replicas": 3},
        {"service": {"port": 9000}},
        {"engine": {"extraArgs": ["--uvicorn-log-level", "debug"]}},
        {"engine": {"env": [{"name": "TZ", "value": "UTC"}]}},
        {"podTemplate": {"metadata": {"annotations": {"a": "b"}}}},
    ],
    ids=str,
)
def test_what_memory_does_not_depend_on_leaves_the_key(sections: dict[str, Any]) -> None:
    assert key(**sections) == key()


def test_a_flag_is_the_same_however_it_is_written() -> None:
    spaced, joined = (
        key(engine={"extraArgs": arguments}) for arguments in (["--block-size", "32"], ["--block-size=32"])
    )
    assert spaced == joined
    assert "block-size=32" in spaced.settings


@pytest.mark.parametrize(
    "sections",
    [
        {"engine": {"extraArgs": ["--api-key", SECRET]}},
        {"engine": {"extraArgs": [f"--api-key={SECRET}"]}},
        {"engine": {"extraArgs": ["--hf-token", SECRET]}},
        {"engine": {"extraArgs": ["--hf-overrides.token", SECRET]}},
        {"engine": {"extraArgs": ["--hf-overrides", f'{{"token": "{SECRET}"}}']}},
        {"engine": {"env": [{"name": "VLLM_API_KEY", "value": SECRET}]}},
        {"engine": {"env": [{"name": "HF_TOKEN", "value": SECRET}]}},
        {"podTemplate": {"spec": {"containers": [{"name": "engine", "env": [{"name": "T", "value": SECRET}]}]}}},
    ],
    ids=str,
)
def test_no_secret_gets_into_a_key(sections: dict[str, Any]) -> None:
    found = key(**sections)
    assert found is not None
    assert SECRET not in found.model_dump_json()


def test_user_information_in_an_address_is_left_out() -> None:
    wanted = spec(LLAMA_8B, workload={"contextLength": 8192})
    found = plan(wanted, facts(LLAMA_8B), ONE_H100)
    private = spec(f"s3://user:{SECRET}@bucket/llama", workload={"contextLength": 8192})
    filed = key_of(found, private)
    assert filed is not None
    assert filed.model == "s3://bucket/llama"


def test_a_variable_of_the_pod_template_counts_like_one_of_the_engine() -> None:
    variable = {"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}
    overlay = {"spec": {"containers": [{"name": "engine", "env": [variable]}]}}
    assert key(podTemplate=overlay) == key(engine={"env": [variable]})


def test_every_flag_of_the_list_is_one_that_vllm_has() -> None:
    known = flags_of("0.33.0")
    assert [name for name in sorted(MEMORY_FLAGS) if not known.has(name)] == []
