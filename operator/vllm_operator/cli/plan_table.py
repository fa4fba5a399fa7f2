"""The plan as a person reads it in a terminal: the answer first, then the sum, the flags, the ways out."""

from __future__ import annotations

import json
import shlex
import shutil
import textwrap
from typing import TYPE_CHECKING

from vllm_operator.planning.calibration import BASIS
from vllm_operator.planning.memory import GIB
from vllm_operator.planning.plan import Verdict
from vllm_operator.planning.wording import class_name, gpus_of, have_gib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vllm_operator.api.status import FeasibilityReport, MemoryBreakdown
    from vllm_operator.cli.planning import Judged
    from vllm_operator.planning.performance import Performance
    from vllm_operator.planning.plan import Alternative, Plan

_BAR_CELLS = 30
_NARROWEST, _WIDEST = 80, 120
_MARKS = {
    Verdict.FITS: "✔",
    Verdict.FITS_IF_FREED: "◐",
    Verdict.FITS_WHEN_SCALED: "◐",
    Verdict.DOES_NOT_FIT: "✘",
    Verdict.UNKNOWN: "?",
}


def as_table(judged: tuple[Judged, ...], *, explain: bool) -> str:
    """All deployments of the file, one after the other."""
    width = min(_WIDEST, max(_NARROWEST, shutil.get_terminal_size((_WIDEST, 40)).columns))
    return "\n\n".join("\n".join(_page(entry, explain=explain, width=width)) for entry in judged)


def _page(entry: Judged, *, explain: bool, width: int) -> Iterator[str]:
    plan = entry.plan
    yield from _head(entry, width)
    if plan.feasibility is not None:
        yield from _memory(plan.feasibility, plan.memory)
    if plan.args and plan.verdict is not Verdict.DOES_NOT_FIT:
        yield from _flags(plan, explain=explain, width=width)
    if plan.trade_offs:
        yield from _trade_offs(entry)
    if plan.performance is not None:
        yield from _performance(plan.performance, entry.cost_per_million_tokens)
    if explain and entry.alternatives:
        yield from _alternatives(entry.alternatives)
    yield from _suggestions(plan, width)
    yield from _warnings(plan, width)
    yield from _objects(entry)


def _head(entry: Judged, width: int) -> Iterator[str]:
    plan, deployment = entry.plan, entry.deployment
    risk = f"  ·  OOM risk {plan.oom_risk.value}" if plan.oom_risk is not None else ""
    yield f"{deployment.metadata.namespace}/{deployment.metadata.name}  ·  {deployment.spec.model.uri}"
    yield f"{_MARKS[plan.verdict]} {plan.verdict.value}{risk}"
    yield ""
    if entry.facts_missing:
        yield from textwrap.wrap(entry.facts_missing, width)
    # The suggestions have a section of their own below the table.
    statement = plan.message.split(" To make it fit: ")[0].split(" To start now: ")[0]
    yield from textwrap.wrap(statement, width)


def _memory(report: FeasibilityReport, breakdown: MemoryBreakdown | None) -> Iterator[str]:
    budget = report.vram_target_alloc_gb
    required = report.weights_gb + report.kv_cache_gb + report.overhead_gb
    yield ""
    yield f"Memory of one GPU ({have_gib(round(report.vram_total_gb * GIB))} GiB)"
    for name, size in (
        ("weights", report.weights_gb),
        ("KV cache", report.kv_cache_gb),
        ("overhead", report.overhead_gb),
    ):
        yield _memory_row(name, size, budget)
    yield _memory_row("required", required, budget)
    yield _memory_row("may be taken", budget, budget)
    if report.headroom_gb > 0:
        yield _memory_row("headroom", report.headroom_gb, budget)
    else:
        yield f"  {'short by':<14}{required - budget:>8.2f} GiB"
    if breakdown is not None:
        low, high = [*breakdown.kv_cache_interval_bytes, breakdown.kv_cache_bytes, breakdown.kv_cache_bytes][:2]
        verb = "was observed to report" if breakdown.basis == BASIS else "will report"
        yield (
            f"  vLLM {verb} {breakdown.kv_cache_bytes / GIB:.2f} GiB for the KV cache "
            f"({low / GIB:.2f} to {high / GIB:.2f}), {breakdown.kv_cache_tokens:,} tokens"
        )


def _memory_row(name: str, size_gib: float, budget_gib: float) -> str:
    share = size_gib / budget_gib if budget_gib > 0 else 0.0
    bar = "█" * min(_BAR_CELLS, round(share * _BAR_CELLS))
    return f"  {name:<14}{size_gib:>8.2f} GiB {share:>6.1%}  {bar}".rstrip()


def _flags(plan: Plan, *, explain: bool, width: int) -> Iterator[str]:
    yield ""
    yield f"vllm serve {plan.model}   ({plan.image})"
    if not explain:
        yield from _wrapped_flags(plan.args[1:], width)
        return
    rows = [(f"--{reason.flag} {reason.value}".rstrip(), reason.why) for reason in plan.reasons]
    flag_width = min(max((len(flag) for flag, _ in rows), default=0), width // 2)
    for flag, why in rows:
        yield f"  {flag:<{flag_width}}  {why}"


def _wrapped_flags(tokens: Sequence[str], width: int) -> Iterator[str]:
    """Lay out a command line so that no flag is parted from its value."""
    flags: list[str] = []
    for token in map(shlex.quote, tokens):
        if token.startswith("--") or not flags:
            flags.append(token)
        else:
            flags[-1] += f" {token}"
    line = " "
    for flag in flags:
        if len(line) + 1 + len(flag) > width and line.strip():
            yield line
            line = " "
        line += f" {flag}"
    yield line


def _trade_offs(entry: Judged) -> Iterator[str]:
    """Both ways round, for each class that could be computed; the plan's own row where there is no other."""
    sized = [alternative for alternative in entry.alternatives if alternative.by_context]
    yield ""
    yield "Sequences that hold at once, by context length"
    if not sized:
        rows = [("context", *(f"{row.context_length:,}" for row in entry.plan.trade_offs))]
        rows.append(("sequences", *(f"{row.max_concurrency:,}" for row in entry.plan.trade_offs)))
        yield from _aligned(rows)
        return
    yield from _aligned(
        [
            ("context", *(f"{row.context_length:,}" for row in sized[0].by_context)),
            *(_trade_off_row(found, (row.max_concurrency for row in found.by_context)) for found in sized),
        ]
    )
    yield ""
    yield "Longest context, by sequences at once"
    yield from _aligned(
        [
            ("sequences", *(f"{row.max_concurrency:,}" for row in sized[0].by_concurrency)),
            *(_trade_off_row(found, (row.context_length for row in found.by_concurrency)) for found in sized),
        ]
    )


def _trade_off_row(alternative: Alternative, figures: Iterable[int]) -> tuple[str, ...]:
    """A class with its figures; a dash where nothing holds."""
    name = gpus_of(alternative)
    return (name, *(f"{figure:,}" if figure else "-" for figure in figures))


def _performance(performance: Performance, cost: tuple[float, float] | None) -> Iterator[str]:
    fast, slow = performance.seconds_per_token
    low, high = performance.tokens_per_second
    running = f"{performance.concurrency:,} × {performance.context_length:,} tokens running"
    yield ""
    yield f"Speed ({performance.basis})"
    yield f"  a token of each sequence every {fast * 1e3:.1f} to {slow * 1e3:.1f} ms, with {running}"
    yield f"  {low:,.0f} to {high:,.0f} tokens a second in all"
    if cost is not None:
        yield f"  a million generated tokens cost {cost[0]:.3g} to {cost[1]:.3g} while all of them run"
    if performance.seconds_to_first_token is not None:
        soon, late = performance.seconds_to_first_token
        prompt = f"for a prompt of {performance.prompt_tokens:,} tokens on an idle server"
        yield f"  first token after {soon * 1e3:,.0f} to {late * 1e3:,.0f} ms {prompt}"


def _alternatives(alternatives: tuple[Alternative, ...]) -> Iterator[str]:
    yield ""
    yield "GPU classes, best first"
    rows: list[tuple[str, ...]] = [("GPUS", "VERDICT", "RISK", "HEADROOM GIB", "MAX CONTEXT", "MAX SEQUENCES")]
    for alternative in alternatives:
        headroom = alternative.headroom_bytes
        rows.append(
            (
                gpus_of(alternative),
                alternative.verdict.value,
                alternative.oom_risk.value if alternative.oom_risk is not None else "-",
                "-" if headroom is None else f"{headroom / GIB:.1f}",
                "-" if alternative.max_context is None else f"{alternative.max_context:,}",
                "-" if alternative.max_concurrency is None else f"{alternative.max_concurrency:,}",
            )
        )
    yield from _aligned(rows)


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  " + "  ".join(cells)


def _suggestions(plan: Plan, width: int) -> Iterator[str]:
    if not plan.suggestions:
        return
    yield ""
    yield "To make it fit (each was planned again)" if plan.verdict is Verdict.DOES_NOT_FIT else "To start now"
    for number, suggestion in enumerate(plan.suggestions, 1):
        yield f"  {number}. {suggestion.summary}"
        yield from textwrap.wrap(suggestion.effect, width - 5, initial_indent="     ", subsequent_indent="     ")
        yield f"     patch: {json.dumps(suggestion.patch)}"


def _warnings(plan: Plan, width: int) -> Iterator[str]:
    if not plan.warnings:
        return
    yield ""
    for warning in plan.warnings:
        yield from textwrap.wrap(f"! {warning}", width, subsequent_indent="  ")


def _objects(entry: Judged) -> Iterator[str]:
    if not entry.objects:
        return
    placement = entry.plan.placement
    yield ""
    kinds = ", ".join(f"{obj.get('kind')} {obj.get('metadata', {}).get('name')}" for obj in entry.objects)
    yield f"Would apply: {kinds}  (vllm-operator render shows them)"
    if placement is not None and placement.nodes:
        shown = ", ".join(placement.nodes[:4]) + (
            f" and {len(placement.nodes) - 4} more" if placement.nodes[4:] else ""
        )
        yield f"Nodes with {class_name(placement.gpu_class)}: {shown}"
