"""What a running vLLM says of its KV cache: the one line of its `/metrics` that holds its configuration as labels.

The text comes from a pod and is believed in nothing: what is malformed, contradicts itself or cannot be true is refused
with a reason. The labels are vLLM's `CacheConfig` (vllm/v1/metrics/loggers.py `PrometheusStatLogger.log_metrics_info`);
0.33 states tokens and concurrency, older releases only blocks.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SERIES: Final = "vllm:cache_config_info"
ENGINE_LABEL: Final = "engine"
"""Index of the data-parallel copy within the server; releases before 0.8 have none."""
LONGEST_LINE: Final = 64 * 1024
MOST_LABELS: Final = 256
MOST_ENGINES: Final = 1024
_UNSET: Final = frozenset({"", "None"})
_BEGIN: Final = SERIES + "{"
_LABEL: Final = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\\n]++|\\[\\"n])*+)"\s*(?:,|(?=\}))')
"""A label with the comma behind it; what it has taken it gives back to no other way of reading, however long it is."""
_ESCAPED: Final = re.compile(r'\\([\\"n])')
_ESCAPES: Final = {"n": "\n", '"': '"', "\\": "\\"}

_MOST_BLOCKS: Final = 2**31
_LARGEST_BLOCK: Final = 2**20
_MOST_TOKENS: Final = 2**40
_MOST_SEQUENCES: Final = 1e9
_MOST_BYTES: Final = 2**50
"""Above anything that a GPU of any maker can hold, by orders of magnitude."""


class ReportFault(StrEnum):
    """Why a report is not used; also the label of a metric."""

    NOT_READY = "NotReady"
    """The series is not there (yet)."""
    MALFORMED = "Malformed"
    CONTRADICTORY = "Contradictory"
    ABSURD = "Absurd"


class ReportError(Exception):
    """A report that is not used."""

    def __init__(self, fault: ReportFault, message: str) -> None:
        self.fault = fault
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """One engine's KV cache, as it states it itself."""

    num_gpu_blocks: int
    block_size: int
    """Tokens of one block."""
    kv_cache_tokens: int | None
    """As its log prints it; None where the release does not state it."""
    max_concurrency: float | None
    """Sequences of the full length that hold at once; None where the release does not state it."""
    gpu_memory_utilization: float | None

    def tokens(self, *, uniform: bool) -> int | None:
        """Return the tokens; where they are not stated, blocks × block size, which is true of `uniform` caches only.

        With sliding windows or recurrent state beside attention one block serves several layers of a group, and the
        product is off by several times (vllm#40691).
        """
        if self.kv_cache_tokens is not None or not uniform:
            return self.kv_cache_tokens
        return self.num_gpu_blocks * self.block_size


def read_reports(text: str) -> tuple[EngineReport, ...]:
    """Return what each engine of one server reports, in the order of their index.

    Raises:
        ReportError: there is nothing that could be used.
    """
    found: dict[str, EngineReport] = {}
    for line in _lines(text):
        if len(line) > LONGEST_LINE:
            raise ReportError(ReportFault.MALFORMED, f"{SERIES} is longer than {LONGEST_LINE} characters")
        labels, value = _series(line)
        if value != 1.0:
            raise ReportError(ReportFault.ABSURD, f"{SERIES} has the value {value:g}; an info series has 1")
        engine = labels.get(ENGINE_LABEL, "")[:64]
        report = _report(labels)
        if found.setdefault(engine, report) != report:
            raise ReportError(ReportFault.CONTRADICTORY, f"engine {engine!r} states its KV cache twice, differently")
        if len(found) > MOST_ENGINES:
            raise ReportError(ReportFault.ABSURD, f"more than {MOST_ENGINES} engines are stated")
    if not found:
        raise ReportError(ReportFault.NOT_READY, f"{SERIES} is not among the metrics")
    return tuple(report for _, report in sorted(found.items(), key=lambda item: (len(item[0]), item[0])))


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of the series; the others, most of the page, are not even split."""
    at = text.find(_BEGIN)
    while at >= 0:
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        if at == 0 or text[at - 1] == "\n":
            yield text[at:end]
        at = text.find(_BEGIN, end)


def _report(labels: Mapping[str, str]) -> EngineReport:
    blocks = _whole(labels, "num_gpu_blocks", _MOST_BLOCKS)
    block_size = _whole(labels, "block_size", _LARGEST_BLOCK)
    if blocks is None or block_size is None:
        raise ReportError(ReportFault.NOT_READY, f"{SERIES} does not state num_gpu_blocks and block_size")
    _whole(labels, "kv_cache_memory_bytes", _MOST_BYTES)  # a user's setting on GPUs: only whether it can be true
    return EngineReport(
        num_gpu_blocks=blocks,
        block_size=block_size,
        kv_cache_tokens=_whole(labels, "kv_cache_size_tokens", _MOST_TOKENS),
        max_concurrency=_positive(labels, "kv_cache_max_concurrency", _MOST_SEQUENCES),
        gpu_memory_utilization=_positive(labels, "gpu_memory_utilization", 1.0),
    )


def _whole(labels: Mapping[str, str], name: str, most: int) -> int | None:
    number = _positive(labels, name, float(most))
    if number is not None and not number.is_integer():
        raise ReportError(ReportFault.ABSURD, f"{name} is {number:g}, not a whole number")
    return int(number) if number is not None else None


def _positive(labels: Mapping[str, str], name: str, most: float) -> float | None:
    text = labels.get(name, "")
    if text in _UNSET:
        return None
    try:
        number = float(text)
    except ValueError:
        raise ReportError(ReportFault.MALFORMED, f"{name} is {text[:40]!r}, not a number") from None
    if not math.isfinite(number) or not 0 < number <= most:
        raise ReportError(ReportFault.ABSURD, f"{name} is {text[:40]!r}; above 0 and at most {most:g} can be true")
    return number


def _series(line: str) -> tuple[dict[str, str], float]:
    """Split one line of the text format (Prometheus exposition formats, version 0.0.4)."""
    labels: dict[str, str] = {}
    at = len(_BEGIN)
    while (label := _LABEL.match(line, at)) is not None:
        name, value = label[1], label[2]
        if name in labels:
            raise ReportError(ReportFault.MALFORMED, f"{SERIES} has the label {name[:64]!r} twice")
        labels[name] = _ESCAPED.sub(lambda found: _ESCAPES[found[1]], value)
        if len(labels) > MOST_LABELS:
            raise ReportError(ReportFault.MALFORMED, f"{SERIES} has more than {MOST_LABELS} labels")
        at = label.end()
    fields = line[at + 1 :].split()
    if line[at : at + 1] != "}" or len(fields) not in (1, 2):  # a timestamp may follow
        raise _malformed(at)
    try:
        return labels, float(fields[0])
    except ValueError:
        raise _malformed(at) from None


def _malformed(at: int) -> ReportError:
    return ReportError(ReportFault.MALFORMED, f"{SERIES} cannot be read from character {at} on")
