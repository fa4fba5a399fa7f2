"""Flags that the operator sets itself are recognised in every spelling that vLLM's parser accepts."""

from __future__ import annotations

import pytest

from vllm_operator.api.managed_flags import MANAGED_FLAGS, managed_flag
from vllm_operator.planning.flags import KNOWN_VERSIONS, flags_of


@pytest.mark.parametrize(
    ("argument", "flag"),
    [
        pytest.param("--max-model-len", "--max-model-len", id="plain"),
        pytest.param("--max-model-len=4096", "--max-model-len", id="with-value"),
        pytest.param("--max_model_len=4096", "--max-model-len", id="underscores"),
        pytest.param("--max-model-len 4096", "--max-model-len", id="one-token"),
        pytest.param("--max-model", "--max-model-len", id="abbreviated"),
        pytest.param("--tensor-par=2", "--tensor-parallel-size", id="abbreviated-with-value"),
        pytest.param("-tp", "-tp", id="short"),
        pytest.param("-tp=2", "-tp", id="short-with-value"),
        pytest.param("-tp2", "-tp", id="short-joined"),
    ],
)
def test_a_managed_flag_is_seen_through_its_spelling(argument: str, flag: str) -> None:
    assert managed_flag(argument) == flag


@pytest.mark.parametrize("argument", ["--enable-prefix-caching", "4096", "max-model-len", "--seed", "-", "--", "-tpx"])
def test_everything_else_passes(argument: str) -> None:
    assert managed_flag(argument) is None


@pytest.mark.parametrize("version", KNOWN_VERSIONS)
def test_no_flag_of_its_own_is_taken_for_an_abbreviation(version: str) -> None:
    mistaken = {
        name: managed_flag(f"--{name}")
        for name in flags_of(version).flags
        if f"--{name}" not in MANAGED_FLAGS and managed_flag(f"--{name}") is not None
    }
    assert mistaken == {}


def test_every_managed_flag_names_what_to_do_instead() -> None:
    assert all(
        advice.startswith(("spec.", "nothing: ", "an environment ", "the fields")) for advice in MANAGED_FLAGS.values()
    )
