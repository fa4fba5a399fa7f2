"""Entry point of the `vllm-operator` command."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    from vllm_operator.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
