"""Run by the Python that vLLM is installed for: reads command lines, one JSON list a line, and answers each in a line.

The answer is what vLLM's own parser and the checks of `vllm serve` before it loads the model say: an error message, or
nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.entrypoints.launchers.launcher import validate_api_server_args
from vllm.utils.argparse_utils import FlexibleArgumentParser


def main() -> None:
    """Answer every line of standard input."""
    command = ServeSubcommand()
    parser = FlexibleArgumentParser(prog="vllm")
    command.subparser_init(parser.add_subparsers(dest="subparser"))
    answers = sys.stdout
    for line in sys.stdin:
        print(json.dumps(refusal(parser, command, json.loads(line))), file=answers, flush=True)


def refusal(parser: FlexibleArgumentParser, command: ServeSubcommand, arguments: list[str]) -> str:
    """Return why vLLM refuses a command line; empty when it does not."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parsed = parser.parse_args(["serve", *arguments])
            parsed.model = parsed.model_tag
            command.validate(parsed)
            engine = AsyncEngineArgs.from_cli_args(parsed)
            parsed.structured_outputs_config.reasoning_parser = engine.reasoning_parser
            validate_api_server_args(parsed)
    except SystemExit:
        return said.getvalue().strip()[-600:] or "the parser gave up"
    except (KeyError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main()
