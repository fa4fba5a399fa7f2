"""What the user wrote for vLLM's command line and vLLM would end its start over: found before a pod is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from vllm_operator.planning.flags import canonical, flags_of
from vllm_operator.planning.request import AUTO, OFF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vllm_operator.planning.flags import FlagTable
    from vllm_operator.planning.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """The same request without what is refused."""

    summary: str
    engine: Mapping[str, object]
    """Merge patch below `spec.engine`."""
    apply: Callable[[Request], Request]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One field that vLLM would refuse, and why."""

    field: str
    why: str
    accepted: Correction


def refusals_of(request: Request) -> Iterator[Refusal]:
    """Yield what vLLM of the asked release refuses.

    A release without a flag table, and an image of somebody else, may know more than we do: they are not judged.
    """
    table = flags_of(request.engine_version)
    if not table.exact or request.image is not None:
        return
    problems = table.problems(request.extra_args, strays=False)
    if problems:
        yield Refusal(
            field="spec.engine.extraArgs",
            why=f"vLLM would not start: {'; '.join(problems)}",
            accepted=_without_problems(request, table),
        )
    plugins = {canonical(token.removeprefix("--").partition("=")[0]) for token in request.extra_args}
    if "tool-parser-plugin" not in plugins and _is_unknown(request.tool_calling, table.tool_parsers):
        yield Refusal(
            field="spec.engine.toolCalling",
            why=_no_parser(request, request.tool_calling, table.tool_parsers),
            accepted=Correction(
                summary="let the model's family choose the tool-call parser",
                engine={"toolCalling": AUTO},
                apply=partial(replace, tool_calling=AUTO),
            ),
        )
    if "reasoning-parser-plugin" not in plugins and _is_unknown(request.reasoning, table.reasoning_parsers):
        yield Refusal(
            field="spec.engine.reasoning",
            why=_no_parser(request, request.reasoning, table.reasoning_parsers),
            accepted=Correction(
                summary="let the model's family choose the reasoning parser",
                engine={"reasoning": AUTO},
                apply=partial(replace, reasoning=AUTO),
            ),
        )


def _is_unknown(wanted: str, known: frozenset[str]) -> bool:
    return wanted not in (AUTO, OFF) and wanted not in known


def _no_parser(request: Request, wanted: str, known: frozenset[str]) -> str:
    return (
        f"vLLM {request.engine_version} would not start: it has no parser {wanted!r}. It has {', '.join(sorted(known))}"
    )


def _without_problems(request: Request, table: FlagTable) -> Correction:
    """Keep each flag, with its values, that would get through on its own."""
    groups: list[list[str]] = []
    for token in request.extra_args:
        if groups and not token.startswith("--"):
            groups[-1].append(token)
        else:
            groups.append([token])
    left_out = [group[0] for group in groups if table.problems(group, strays=False)]
    kept = tuple(token for group in groups if not table.problems(group, strays=False) for token in group)
    return Correction(
        summary=f"leave out {', '.join(left_out)}",
        engine={"extraArgs": list(kept) or None},
        apply=partial(replace, extra_args=kept),
    )
