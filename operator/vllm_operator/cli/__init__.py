"""The command line. Each command is a module with `add_parser` and `run`; only the one that is called is imported."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from vllm_operator import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "run": "run the operator",
    "plan": "judge and plan a VLLMDeployment without a cluster, or against one",
    "render": "print the objects that a VLLMDeployment becomes",
    "predict": "predict what vLLM reports on start",
    "observations": "what running vLLMs were observed to leave for the KV cache",
    "nodes": "the GPU capacity as the planner sees it",
    "label-node": "write this node's GPU facts as node labels",
    "crd": "print the CustomResourceDefinition",
}
"""Name to help text; `label-node` is the module `label_node`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(next((argument for argument in arguments if argument in COMMANDS), None))
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_BAD_INPUT
    command: Callable[[argparse.Namespace], int] | None = getattr(parsed, "run", None)
    if command is None:
        parser.print_help()
        return EXIT_BAD_INPUT
    try:
        return command(parsed)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`… | head`): nothing is left to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser(command: str | None) -> argparse.ArgumentParser:
    """The parser with the called command's own options; the other commands are there by name only."""
    parser = argparse.ArgumentParser(
        prog="vllm-operator",
        description="Knows before vLLM starts whether a model fits, and how to run it.",
    )
    parser.add_argument("--version", action="version", version=f"vllm-operator {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, text in COMMANDS.items():
        if name == command:
            import_module(f"vllm_operator.cli.{name.replace('-', '_')}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=text)
    return parser
