"""`vllm-operator render`: only the objects, as YAML documents."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vllm_operator.cli.nodes import UnreadableInput
from vllm_operator.cli.planning import EXIT_BAD_INPUT, add_inputs, exit_code, judge

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `render` subcommand."""
    parser = subparsers.add_parser(
        "render",
        help="print the objects that a VLLMDeployment becomes",
        description="Print the objects that a VLLMDeployment becomes, as YAML documents. Exit codes as for `plan`.",
    )
    add_inputs(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the objects; what does not fit goes to standard error."""
    import yaml

    try:
        judged = judge(args)
    except UnreadableInput as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    for entry in judged:
        if not entry.objects:
            print(f"{entry.deployment.metadata.name}: {entry.plan.message}", file=sys.stderr)
    objects = [obj for entry in judged for obj in entry.objects]
    if objects:
        print(yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True, width=120), end="")
    return exit_code(judged)
