#!/usr/bin/python3
"""The `vllm` command of the test's engine image; the package itself is mounted at PYTHONPATH."""

import sys

from vllm.entrypoints.cli.main import main

# vLLM starts its processes anew, and each of them reads this file.
if __name__ == "__main__":
    sys.exit(main())
