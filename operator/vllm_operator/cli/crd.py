"""`vllm-operator crd`: the CustomResourceDefinition, generated from the API models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `crd` subcommand."""
    parser = subparsers.add_parser(
        "crd",
        help="print the CustomResourceDefinition",
        description="Print the CustomResourceDefinition: `vllm-operator crd | kubectl apply --server-side -f -`.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the definition as YAML."""
    from vllm_operator.api.schema import crd_yaml

    print(crd_yaml(), end="")
    return 0
