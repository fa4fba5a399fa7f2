"""Writes the figures of `docs/explanation/memory-model.md` from the data in this repository (`make accuracy`).

Text between `<!-- generated: NAME -->` and `<!-- end -->` is replaced; everything else is written by hand. With
`--check` nothing is written, and the exit code is 1 when the document is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.accuracy.errors import Miss, Summary, kv_misses, left_out, summary, weight_misses, wrong_verdicts
from tests.accuracy.plot import error_plot
from tests.accuracy.starts import UNSTATED_INPUT, later_starts, starts, untouched_later_starts

from vllm_operator.models.memory.constants import TABLE, MemoryConstants

FOLDER = Path(__file__).parents[2] / "docs" / "explanation"
DOCUMENT = FOLDER / "memory-model.md"
PLOT = FOLDER / "memory-model-errors.svg"
WORST_SHOWN = 8


def main(arguments: list[str]) -> int:
    """Regenerates document and plot, or checks that they are current."""
    everything = starts()
    in_sample = kv_misses(everything)
    by_family = left_out(lambda start: start.family)
    by_source = left_out(lambda start: start.source)
    blocks = {
        "constants": _constants_table(),
        "accuracy": _accuracy_table(in_sample, by_family, by_source),
        "verdicts": _verdicts(),
        "worst": _worst_table(by_family),
    }
    document = _filled(DOCUMENT.read_text(encoding="utf-8"), blocks)
    plot = error_plot(in_sample, by_family)
    if "--check" in arguments:
        current = DOCUMENT.read_text(encoding="utf-8") == document and PLOT.read_text(encoding="utf-8") == plot
        print("memory-model.md is current" if current else "memory-model.md is out of date: run `make accuracy`")
        return 0 if current else 1
    DOCUMENT.write_text(document, encoding="utf-8")
    PLOT.write_text(plot, encoding="utf-8")
    print(blocks["accuracy"])
    return 0


def _filled(text: str, blocks: dict[str, str]) -> str:
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, replaced = pattern.subn(lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text)  # type: ignore[misc]
        if replaced != 1:
            message = f"{DOCUMENT.name} has {replaced} places for {name!r}"
            raise SystemExit(message)
    return text


def _constants_table() -> str:
    lines = [
        "| since | sampler, B a logit | hidden copies | scratch | graphs charged: old runner, new | alone "
        "| NVLink pair, four | PCIe pair, four | residual | source |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_constants_row(row) for row in TABLE]
    return "\n".join(lines)


def _constants_row(row: MemoryConstants) -> str:
    sampler = f"{row.sampler_bytes_per_logit:g}"
    if row.sampler_bytes_per_logit_lean != row.sampler_bytes_per_logit:
        sampler += f" (lean {row.sampler_bytes_per_logit_lean:g})"
    cells = (
        ".".join(map(str, row.since)),
        sampler,
        f"{row.forward_hidden_copies:g}",
        "stays" if row.experts_workspace_stays else "transient",
        f"{row.graphs_inside_budget:g}, {row.new_runner_graphs_inside_budget:g}",
        f"{row.non_torch_gib + row.context_inside_budget_gib:.2f}",
        f"+{row.fabric_pair_gib:.2f}, +{row.fabric_quad_gib:.2f}",
        f"+{row.bus_gib:.2f}, +{row.bus_quad_gib:.2f}",
        f"{row.residual_gib:.2f}",
        row.source,
    )
    return f"| {' | '.join(cells)} |"


def _accuracy_table(in_sample: list[Miss], by_family: list[Miss], by_source: list[Miss]) -> str:
    rows = [
        ("KV memory, shipped constants (in sample)", summary(in_sample)),
        ("KV memory, the same, every setting stated", summary(_stated(in_sample))),
        ("KV memory, model family left out of the fit", summary(by_family)),
        ("KV memory, the same, every setting stated", summary(_stated(by_family))),
        ("KV memory, source left out of the fit", summary(by_source)),
        ("KV memory, starts found after the fit", summary(kv_misses(later_starts()))),
        ("KV memory, of those the ones before 0.26", summary(kv_misses(untouched_later_starts()))),
        ("Weights as loaded (nothing is fitted)", summary(weight_misses(starts()))),
    ]
    lines = [
        "| figure | starts | mean | median | p90 | worst | promises > 5 % too much | 80 % interval holds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_accuracy_row(name, found) for name, found in rows]
    return "\n".join(lines)


def _stated(misses: list[Miss]) -> list[Miss]:
    return [miss for miss in misses if miss.start.id not in UNSTATED_INPUT]


def _accuracy_row(name: str, found: Summary) -> str:
    covered = f"{found.covered} of {found.count}" if name.startswith("KV") else "none given"
    return (
        f"| {name} | {found.count} | {found.mean:.2f} % | {found.median:.2f} % | {found.ninth_decile:.2f} % "
        f"| {found.worst:.1f} % | {found.over_promises} | {covered} |"
    )


def _verdicts() -> str:
    false_fits, false_refusals = wrong_verdicts(starts())
    judged = sum("verdict" in start.judged for start in starts())
    right = judged - len(false_fits) - len(false_refusals)
    wrong = [f"false fit: {name}" for name in false_fits] + [f"false refusal: {name}" for name in false_refusals]
    return f"{right} of {judged} starts and failures are told right." + "".join(f"\n- {line}" for line in wrong)


def _worst_table(misses: list[Miss]) -> str:
    worst = sorted(misses, key=lambda miss: -abs(miss.percent))[:WORST_SHOWN]
    lines = ["| start | vLLM | measured GiB | predicted GiB | error |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {miss.start.id} | {miss.start.row.vllm_version} | {miss.measured:.2f} | {miss.predicted:.2f} "
        f"| {miss.percent:+.1f} % |"
        for miss in worst
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
