"""`vllm-operator plan`: verdict, memory, flags and suggestions for a VLLMDeployment, without applying anything."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vllm_operator.cli.nodes import UnreadableInput
from vllm_operator.cli.planning import EXIT_BAD_INPUT, add_inputs, exit_code, judge
from vllm_operator.cli.prices import add_prices

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from vllm_operator.cli.planning import Judged


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `plan` subcommand."""
    parser = subparsers.add_parser(
        "plan",
        help="judge and plan a VLLMDeployment without a cluster, or against one",
        description="Judge a VLLMDeployment against nodes and print what it would become. "
        "Exit code: 0 fits, 3 does not fit, 4 unknown, 2 bad input.",
    )
    add_inputs(parser)
    add_prices(parser)
    parser.add_argument(
        "-o", "--output", choices=("table", "json", "yaml", "html"), default="table", help="default: table"
    )
    parser.add_argument("--explain", action="store_true", help="say why each flag was chosen, and show every GPU class")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plans; the code says the worst verdict."""
    try:
        judged = judge(args)
    except UnreadableInput as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(_writer(args.output, explain=args.explain)(judged))
    return exit_code(judged)


def _writer(output: str, *, explain: bool) -> Callable[[tuple[Judged, ...]], str]:
    match output:
        case "json":
            from vllm_operator.cli.plan_document import as_json

            return as_json
        case "yaml":
            from vllm_operator.cli.plan_document import as_yaml

            return as_yaml
        case "html":
            from vllm_operator.cli.plan_page import as_html

            return as_html
        case _:
            from vllm_operator.cli.plan_table import as_table

            return lambda judged: as_table(judged, explain=explain)
