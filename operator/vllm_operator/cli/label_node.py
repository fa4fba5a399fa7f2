"""`vllm-operator label-node`: NVML to node labels, once or again and again."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    import argparse

    from vllm_operator.cli.kube_api import KubeApi
    from vllm_operator.node_agent.nvml import Machine

EXIT_FAILED: Final = 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `label-node` subcommand."""
    parser = subparsers.add_parser(
        "label-node",
        help="label this node with what its GPUs are (node agent)",
        description="Read the GPUs of this machine through NVML and label its node as GPU Feature Discovery would, "
        "where that does not run; add the interconnect and the memory that processes outside Kubernetes hold. Labels "
        "of others are never changed.",
    )
    parser.add_argument("--node-name", metavar="NAME", help="the node to label; needed unless --dry-run")
    parser.add_argument("--dry-run", action="store_true", help="print the labels as JSON and change nothing")
    parser.add_argument(
        "--interval",
        type=_positive_seconds,
        metavar="SECONDS",
        help="repeat after that many seconds (for a DaemonSet); default: once",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Label the node; 1 when the GPUs cannot be read or the node cannot be changed, 2 on a wrong call."""
    from vllm_operator.node_agent.labelling import feature_labels, own_labels
    from vllm_operator.node_agent.nvml import NoGpuDriver, read_machine

    if args.dry_run:
        try:
            machine = read_machine()
        except NoGpuDriver as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_FAILED
        print(json.dumps({**feature_labels(machine), **own_labels(machine)}, indent=2, sort_keys=True))
        return 0
    if not args.node_name:
        print("error: say which node this is: --node-name NAME", file=sys.stderr)
        return 2
    while True:
        failed = _label_once(args.node_name)
        if args.interval is None:
            return EXIT_FAILED if failed else 0
        time.sleep(args.interval)


def _label_once(node_name: str) -> bool:
    """Bring the node's labels up to date; says whether that failed. While the GPUs cannot be read, they stay."""
    from vllm_operator.cli.kube_api import ApiServerError, KubeApi
    from vllm_operator.node_agent.nvml import NoGpuDriver, read_machine

    try:
        _apply(KubeApi(), node_name, read_machine())
    except (NoGpuDriver, ApiServerError) as error:
        print(f"error: node {node_name} is not labelled: {error}", file=sys.stderr)
        return True
    return False


def _apply(api: KubeApi, node_name: str, machine: Machine) -> None:
    from vllm_operator.cluster.reading import mapping_at, strings
    from vllm_operator.node_agent.labelling import label_changes

    path = f"/api/v1/nodes/{quote(node_name, safe='')}"
    present = strings(mapping_at(api.get(path), "metadata", "labels"))
    changes = label_changes(machine, present)
    if changes:
        api.merge(path, {"metadata": {"labels": changes}})
        print(f"{node_name}: {json.dumps(changes, sort_keys=True)}")


def _positive_seconds(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds < 1e9:
        raise ValueError(text)
    return seconds
