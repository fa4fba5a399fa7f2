"""The plan as one HTML page without scripts or outside resources: to attach to a ticket or a pull request."""

from __future__ import annotations

import json
from html import escape
from math import log2
from typing import TYPE_CHECKING

from vllm_operator.planning.plan import Verdict
from vllm_operator.planning.wording import gpus_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_operator.cli.planning import Judged
    from vllm_operator.planning.plan import Alternative, Plan

_STYLE = """
:root { color-scheme: light dark; --weights: #3465a4; --kv: #4e9a06; --overhead: #c17d11; --free: #88888833; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin-bottom: 0; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; } pre { overflow-x: auto; padding: .6rem; background: #8881; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.verdict { font-weight: 600; padding: .1rem .6rem; border-radius: .8rem; color: #fff; background: #777; }
.Fits { background: #4e9a06; } .DoesNotFit { background: #cc0000; }
.FitsIfFreed, .FitsWhenScaled { background: #c17d11; }
svg { width: 100%; height: 2rem; } .bar { height: .8rem; background: var(--kv); display: inline-block; }
"""


def as_html(judged: tuple[Judged, ...]) -> str:
    """A whole page with every deployment of the file."""
    body = "\n".join(part for entry in judged for part in _section(entry))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>vLLM plan</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>"
    )


def _section(entry: Judged) -> Iterator[str]:
    plan, metadata = entry.plan, entry.deployment.metadata
    risk = f" · OOM risk {plan.oom_risk.value}" if plan.oom_risk is not None else ""
    yield f"<h1>{escape(f'{metadata.namespace}/{metadata.name}')}</h1>"
    yield f"<p><code>{escape(entry.deployment.spec.model.uri)}</code></p>"
    yield f'<p><span class="verdict {plan.verdict.value}">{plan.verdict.value}</span>{escape(risk)}</p>'
    yield f"<p>{escape(' '.join(filter(None, (entry.facts_missing, plan.message))))}</p>"
    yield from _memory(plan)
    yield from _flags(plan)
    yield from _trade_offs(plan)
    yield from _speed(entry)
    yield from _alternatives(entry.alternatives)
    yield from _frontiers(entry.alternatives)
    yield from _suggestions(plan)
    if plan.warnings:
        yield "<h2>Warnings</h2><ul>" + "".join(f"<li>{escape(warning)}</li>" for warning in plan.warnings) + "</ul>"


def _memory(plan: Plan) -> Iterator[str]:
    report = plan.feasibility
    if report is None:
        return
    parts = (("weights", report.weights_gb), ("kv", report.kv_cache_gb), ("overhead", report.overhead_gb))
    scale = 1000 / max(report.vram_total_gb, sum(size for _, size in parts), 1e-9)
    x, drawn = 0.0, []
    for name, size in parts:
        drawn.append(f'<rect x="{x:.1f}" width="{size * scale:.1f}" height="30" fill="var(--{name})"/>')
        x += size * scale
    limit = report.vram_target_alloc_gb * scale
    yield f"<h2>Memory of one GPU ({report.vram_total_gb:.1f} GiB)</h2>"
    yield (
        '<svg viewBox="0 0 1000 30" preserveAspectRatio="none" role="img" aria-label="memory of one GPU">'
        f'<rect width="{report.vram_total_gb * scale:.1f}" height="30" fill="var(--free)"/>{"".join(drawn)}'
        f'<line x1="{limit:.1f}" x2="{limit:.1f}" y2="30" stroke="currentColor" stroke-width="2"/></svg>'
    )
    rows = [(name, f"{size:.2f} GiB") for name, size in (*parts, ("may be taken", report.vram_target_alloc_gb))]
    rows.append(("headroom", f"{report.headroom_gb:.2f} GiB"))
    yield _table(("", "GiB"), rows)


def _flags(plan: Plan) -> Iterator[str]:
    if plan.reasons and plan.verdict is not Verdict.DOES_NOT_FIT:
        yield f"<h2>Flags</h2><p><code>vllm serve {escape(plan.model)}</code> in <code>{escape(plan.image)}</code></p>"
        rows = [(f"--{reason.flag} {reason.value}".rstrip(), reason.why) for reason in plan.reasons]
        yield _table(("flag", "why"), rows, numbers=False)


def _trade_offs(plan: Plan) -> Iterator[str]:
    if not plan.trade_offs:
        return
    most = max(row.max_concurrency for row in plan.trade_offs) or 1
    yield "<h2>Sequences that hold at once</h2>"
    yield "<table><tr><th class=n>context</th><th class=n>sequences</th><th></th></tr>"
    for row in plan.trade_offs:
        width = 30 * row.max_concurrency / most
        bar = f'<span class="bar" style="width:{width:.1f}rem"></span>'
        yield f"<tr><td class=n>{row.context_length:,}</td><td class=n>{row.max_concurrency:,}</td><td>{bar}</td></tr>"
    yield "</table>"


def _alternatives(alternatives: tuple[Alternative, ...]) -> Iterator[str]:
    if not alternatives:
        return
    rows = [
        (
            gpus_of(alternative),
            alternative.verdict.value,
            "-" if alternative.max_context is None else f"{alternative.max_context:,}",
            "-" if alternative.max_concurrency is None else f"{alternative.max_concurrency:,}",
        )
        for alternative in alternatives
    ]
    yield "<h2>GPU classes</h2>" + _table(("GPUs", "verdict", "max context", "max sequences"), rows)


def _speed(entry: Judged) -> Iterator[str]:
    performance, cost = entry.plan.performance, entry.cost_per_million_tokens
    if performance is None:
        return
    (fast, slow), (low, high) = performance.seconds_per_token, performance.tokens_per_second
    rows = [
        ("time per token", f"{fast * 1e3:.1f} to {slow * 1e3:.1f} ms"),
        ("tokens a second in all", f"{low:,.0f} to {high:,.0f}"),
    ]
    if cost is not None:
        rows.append(("cost of a million generated tokens", f"{cost[0]:.3g} to {cost[1]:.3g}"))
    running = f"{performance.concurrency:,} × {performance.context_length:,} tokens running"
    yield f"<h2>Speed</h2><p>{escape(performance.basis)}; {running}</p>" + _table(("", "range"), rows)


def _frontiers(alternatives: Sequence[Alternative]) -> Iterator[str]:
    """Draw what each class holds: context to the right, sequences upwards, both by powers of two."""
    drawn = [(found, _points(found)) for found in alternatives]
    drawn = [(found, points) for found, points in drawn if len(points) > 1]
    if not drawn:
        return
    right = max(x for _, points in drawn for x, _ in points)
    left = min(x for _, points in drawn for x, _ in points)
    top = max(max(y for _, points in drawn for _, y in points), 1.0)
    lines, names = [], []
    for number, (found, points) in enumerate(drawn):
        hue = round(number * 360 / len(drawn))
        path = " ".join(f"{(x - left) / (right - left) * 1000:.0f},{300 - y / top * 290:.0f}" for x, y in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="hsl({hue} 60% 45%)" stroke-width="3"/>')
        name = escape(gpus_of(found))
        names.append(f'<li><span style="color:hsl({hue} 60% 45%)">■</span> {name}</li>')
    yield "<h2>Sequences at once, by context</h2>"
    yield (
        '<svg viewBox="0 0 1000 300" style="height:15rem" role="img" aria-label="sequences at once by context">'
        f"{''.join(lines)}</svg>"
        f"<p>{2**left:,.0f} to {2**right:,.0f} tokens to the right, 1 to {2**top:,.0f} sequences upwards, by powers of "
        f"two.</p><ul>{''.join(names)}</ul>"
    )
    heads = ("GPUs", *(f"{row.max_concurrency:,} at once" for row in drawn[0][0].by_concurrency))
    rows = [
        (
            gpus_of(found),
            *(f"{row.context_length:,}" if row.context_length else "-" for row in found.by_concurrency),
        )
        for found, _ in drawn
    ]
    yield "<h2>Longest context, by sequences at once</h2>" + _table(heads, rows)


def _points(found: Alternative) -> list[tuple[float, float]]:
    return [
        (log2(row.context_length), log2(row.max_concurrency)) for row in found.by_context if row.max_concurrency > 0
    ]


def _suggestions(plan: Plan) -> Iterator[str]:
    if not plan.suggestions:
        return
    yield "<h2>What would help</h2><ol>"
    for suggestion in plan.suggestions:
        patch = escape(json.dumps(suggestion.patch))
        yield f"<li>{escape(suggestion.summary)}: {escape(suggestion.effect)}<pre>{patch}</pre></li>"
    yield "</ol>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    kind = " class=n" if numbers else ""
    lines = [
        f"<tr><th>{escape(head[0])}</th>" + "".join(f"<th{kind}>{escape(cell)}</th>" for cell in head[1:]) + "</tr>"
    ]
    for first, *others in rows:
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell in others)
        lines.append(f"<tr><td>{escape(first)}</td>{cells}</tr>")
    return "<table>" + "".join(lines) + "</table>"
