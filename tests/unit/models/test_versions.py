"""Versions as people write them, and what each does by default."""

from __future__ import annotations

import pytest

from vllm_operator.models.versions import (
    NEWEST_KNOWN,
    default_batch,
    default_gpu_memory_utilization,
    parse_version,
    prefill_in_one_piece_tokens,
)

GIB = 1024**3


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("0.19.0", (0, 19, 0)),
        ("v0.33.0", (0, 33, 0)),
        ("0.26.1rc1.dev156+g0eec856cc.d20260731", (0, 26, 1)),
        ("0.11.0+torch271", (0, 11, 0)),
        ("~0.27 (08-21-2026)", (0, 27, 0)),
        ("0.20.x", (0, 20, 0)),
        ("0.6.6.post1", (0, 6, 6)),
        ("1.2.3", (1, 2, 3)),
    ],
)
def test_a_release_is_read_however_it_is_written(text: str, release: tuple[int, int, int]) -> None:
    version = parse_version(text)
    assert version.release == release
    assert version.stated


@pytest.mark.parametrize("text", [None, "", "nightly", "0.1.dev20073+g8e685d198", "glm53-flash image"])
def test_what_names_no_release_is_answered_as_the_newest_known_and_says_so(text: str | None) -> None:
    version = parse_version(text)
    assert version.release == NEWEST_KNOWN
    assert not version.stated


def test_a_version_beyond_the_known_says_so() -> None:
    assert not parse_version("0.40.1").within_known
    assert parse_version("0.33.2").within_known


@pytest.mark.parametrize(("text", "share"), [("0.9.2", 0.90), ("0.20.2", 0.90), ("0.21.0", 0.92), ("0.33.0", 0.92)])
def test_default_utilization_rose_in_0_21(text: str, share: float) -> None:
    assert default_gpu_memory_utilization(parse_version(text)) == share


@pytest.mark.parametrize(
    ("text", "gib", "product", "sequences", "tokens"),
    [
        pytest.param("0.33.0", 79.2, "NVIDIA H100 80GB HBM3", 1024, 8192, id="h100"),
        pytest.param("0.33.0", 79.3, "NVIDIA A100-SXM4-80GB", 256, 2048, id="a100-is-named-out"),
        pytest.param("0.33.0", 178.4, "NVIDIA B200", 1024, 16384, id="b200"),
        pytest.param("0.19.0", 178.4, "NVIDIA B200", 1024, 8192, id="b200-before-0.28"),
        pytest.param("0.33.0", 22.0, "NVIDIA L4", 256, 2048, id="l4"),
        pytest.param("0.12.0", 95.0, "NVIDIA RTX PRO 6000", 1024, 8192, id="by-memory-not-by-name"),
        pytest.param("0.8.2", 22.0, "NVIDIA L4", 1024, 2048, id="1024-everywhere-before-0.8.4"),
        pytest.param("0.7.3", 79.2, "NVIDIA H100 80GB HBM3", 256, 2048, id="v0"),
    ],
)
def test_batch_defaults_follow_version_and_card(
    text: str, gib: float, product: str, sequences: int, tokens: int
) -> None:
    defaults = default_batch(parse_version(text), device_bytes=int(gib * GIB), product=product)
    assert (defaults.max_num_seqs, defaults.max_num_batched_tokens) == (sequences, tokens)


def test_prompts_are_not_split_before_0_8_up_to_32k() -> None:
    assert prefill_in_one_piece_tokens(parse_version("0.6.4"), max_model_len=29000) == 29000
    assert prefill_in_one_piece_tokens(parse_version("0.6.4"), max_model_len=1024) == 2048
    assert prefill_in_one_piece_tokens(parse_version("0.6.4"), max_model_len=35000) is None
    assert prefill_in_one_piece_tokens(parse_version("0.8.0"), max_model_len=29000) is None
