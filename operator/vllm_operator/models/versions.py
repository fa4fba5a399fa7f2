"""Which vLLM is meant, and what that version does when a flag is left out.

Versions are ordered by release number alone: a development build counts as the release it leads to. What a table below
does not know (`"nightly"`, a fork's own name, nothing at all) is answered as the newest version known here and says so,
so that a caller can widen its interval.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

GIB = 1024**3

NEWEST_KNOWN = (0, 33, 0)
"""Newest release whose defaults and start-up accounting were read from its own code or logs."""

_RELEASE = re.compile(r"(?<![\d.])v?(\d+)\.(\d+|x)(?:\.(\d+|x))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineVersion:
    """A release number to order by, and whether it was stated or had to be assumed."""

    release: tuple[int, int, int]
    stated: bool
    """False: nothing usable was said, the newest known version is assumed."""
    within_known: bool
    """False: newer than anything the tables were made from."""

    def __str__(self) -> str:
        return ".".join(map(str, self.release))


@functools.lru_cache(maxsize=1024)
def parse_version(text: str | None) -> EngineVersion:
    """Read a version as people write it: `0.19.0`, `v0.26.1rc1.dev156+g0eec856`, `~0.27`, `0.20.x`.

    A source build without tags calls itself `0.1.devN`: its number says nothing, so the newest known is assumed.
    """
    match = _RELEASE.search(text or "")
    if match is None:
        return EngineVersion(release=NEWEST_KNOWN, stated=False, within_known=True)
    major, minor, patch = (0 if part in (None, "x") else int(part) for part in match.groups())
    untagged_build = (major, minor) == (0, 1)
    if untagged_build or major > 99:
        return EngineVersion(release=NEWEST_KNOWN, stated=False, within_known=True)
    release = (major, minor, patch)
    return EngineVersion(release=release, stated=True, within_known=release[:2] <= NEWEST_KNOWN[:2])


def default_gpu_memory_utilization(version: EngineVersion) -> float:
    """Share of the card that vLLM takes when none is given: 0.90, and 0.92 since 0.21.

    Source: vllm/config/cache.py:CacheConfig.gpu_memory_utilization; measured 0.90 at 0.19.0 and 0.92 at 0.22.1.
    """
    return 0.92 if version.release >= (0, 21, 0) else 0.90


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDefaults:
    """`--max-num-seqs` and `--max-num-batched-tokens` of `vllm serve` when neither is given."""

    max_num_seqs: int
    max_num_batched_tokens: int


_HOPPER_NAMES = ("h100", "h200")
_INTEGRATED_NAMES = ("gb10", "dgx spark", "thor", "strix")


@functools.lru_cache(maxsize=1024)
def default_batch(version: EngineVersion, *, device_bytes: int, product: str | None) -> BatchDefaults:
    """Batch limits of the API server for that version and card, before the model's own length is considered.

    Sources: vllm/engine/arg_utils.py, `_set_default_args_v1` and `get_batch_defaults`; pull requests 12369 (larger on
    H100 and H200), 16158 (256 sequences again elsewhere), 51726 (160 GiB and more).
    """
    name = (product or "").lower()
    release = version.release
    if release < (0, 8, 0):
        return BatchDefaults(max_num_seqs=256, max_num_batched_tokens=2048 if release >= (0, 7, 0) else 512)
    if any(part in name for part in _INTEGRATED_NAMES):
        return BatchDefaults(max_num_seqs=256, max_num_batched_tokens=2048)
    if release < (0, 8, 4):
        tokens = 8192 if any(part in name for part in _HOPPER_NAMES) else 2048
        return BatchDefaults(max_num_seqs=1024, max_num_batched_tokens=tokens)
    device_gib = device_bytes / GIB
    if device_gib >= 160 and release >= (0, 28, 0):
        return BatchDefaults(max_num_seqs=1024, max_num_batched_tokens=16384)
    if device_gib >= 70 and "a100" not in name:
        return BatchDefaults(max_num_seqs=1024, max_num_batched_tokens=8192)
    return BatchDefaults(max_num_seqs=256, max_num_batched_tokens=2048)


def prefill_in_one_piece_tokens(version: EngineVersion, *, max_model_len: int) -> int | None:
    """Tokens of one batch where the engine does not split prompts: before 0.8 below 32 k, else None.

    Source: vllm/engine/arg_utils.py@0.6.4 `create_engine_config`: chunked prefill turns on by itself above 32,768
    tokens; below, a batch holds at least one whole prompt (vllm-project/vllm issue 10517).
    """
    if version.release >= (0, 8, 0) or max_model_len > 32768:
        return None
    return max(2048, max_model_len)


def schedules_asynchronously(version: EngineVersion) -> bool:
    """Whether two batches are in flight by default, which sliding-window layers then reserve for.

    Source: vllm/config/vllm.py@0.33 `max_concurrent_batches`; not part of the window's reservation in the 0.19 logs.
    """
    return version.release >= (0, 28, 0)


def fit_counts_all_stages(version: EngineVersion) -> bool:
    """Whether the fit check holds one sequence over the layers of all pipeline stages against one stage's memory.

    Source: vllm/v1/core/kv_cache_utils.py `_check_enough_kv_cache_memory`, 0.14 and 0.15 (pull request 29431, undone
    by 33698; issues 32105 and 34076).
    """
    return (0, 14, 0) <= version.release < (0, 16, 0)


def prints_tokens_of_one_group(version: EngineVersion) -> bool:
    """Whether "GPU KV cache size" is `blocks // groups * block size` (0.10.2 up to 0.21) rather than what requests get.

    Source: vllm/v1/core/kv_cache_utils.py `get_kv_cache_configs`@0.19; replaced by concurrency x length before 0.24.
    """
    return version.release < (0, 22, 0)
