"""`vllm-operator run`: the operator itself."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from types import FrameType

EXIT_BAD_INPUT = 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `run` subcommand."""
    parser = subparsers.add_parser(
        "run",
        help="run the operator",
        description="Run the operator against the cluster of its service account or of the kubeconfig. "
        "Settings come from environment variables VLLM_OPERATOR_*.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until stopped; 2 when the settings are not valid."""
    # The first process of a container has no default reaction to SIGTERM: until the operator takes over, this is it.
    signal.signal(signal.SIGTERM, _stop)
    from vllm_operator.settings import SettingsError, load_settings

    try:
        settings = load_settings()
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    from vllm_operator.runtime.process import run as run_operator

    return run_operator(settings)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
