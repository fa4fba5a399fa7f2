"""`vllm-operator nodes`: the inventory as the planner sees it, with the source of each figure."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.cluster.records import GpuClass, GpuOffer

EXIT_BAD_INPUT = 2
_COLUMNS = ("NODE", "RESOURCE", "PRODUCT", "MEMORY GIB", "BASIS", "SHARING", "CAPACITY", "ALLOC", "FREE", "USABLE")


class UnreadableInput(Exception):
    """A file or a cluster that cannot be read; the message says which and why."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `nodes` subcommand."""
    parser = subparsers.add_parser(
        "nodes",
        help="the GPU capacity as the planner sees it",
        description="Print every node's GPU resources: what a pod could request, how much is free, and where each "
        "memory figure comes from.",
    )
    add_source(parser)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="default: table")
    parser.set_defaults(run=run)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where nodes and pods come from; `plan` and `render` have the same."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--nodes", metavar="FILE", help="what `kubectl get nodes,pods -A -o yaml` printed; - is stdin")
    source.add_argument("--cluster", action="store_true", help="the cluster of the current kubeconfig context")


def run(args: argparse.Namespace) -> int:
    """Print the inventory; 2 when it cannot be read."""
    try:
        inventory = load_inventory(nodes_file=args.nodes, cluster=args.cluster)
    except UnreadableInput as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    if inventory is None:
        print("error: say where the nodes are: --nodes FILE or --cluster", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(json_report(inventory) if args.output == "json" else table_report(inventory))
    return 0


def load_inventory(*, nodes_file: str | None, cluster: bool) -> Inventory | None:
    """Return the inventory of a file or of the cluster, None when neither is asked for. Raises `UnreadableInput`."""
    from vllm_operator.cluster.documents import read_inventory

    objects = load_objects(nodes_file=nodes_file, cluster=cluster)
    return read_inventory(objects) if objects is not None else None


def load_objects(
    *, nodes_file: str | None, cluster: bool, must_have_nodes: bool = False
) -> list[Mapping[str, Any]] | None:
    """Return the objects of a file or of the cluster, None when neither is asked for.

    `must_have_nodes`: a file without any is the wrong file, and not a cluster on which nothing fits.

    Raises `UnreadableInput`.
    """
    if nodes_file is not None:
        documents = read_documents(nodes_file)
        if must_have_nodes:
            _refuse_without_nodes(nodes_file, documents)
        return documents
    if cluster:
        from vllm_operator.cli.cluster_objects import list_cluster
        from vllm_operator.cli.kube_api import ApiServerError

        try:
            return list(list_cluster())
        except ApiServerError as error:
            raise UnreadableInput(str(error)) from error
    return None


def _refuse_without_nodes(path: str, documents: Iterable[Mapping[str, Any]]) -> None:
    from vllm_operator.cluster.documents import SAY_WHAT_THERE_IS, each_object

    kinds = {str(obj.get("kind")) for document in documents for obj in each_object(document)}
    if kinds.isdisjoint(SAY_WHAT_THERE_IS):
        found = f"only {', '.join(sorted(kinds))}" if kinds else "it is empty"
        raise UnreadableInput(
            f"{shown(path)} holds no Node, {found}: print them with `kubectl get nodes,pods -A -o yaml`"
        )


def shown(path: str) -> str:
    """Return what a file is called in messages."""
    return "standard input" if path == "-" else path


def read_documents(path: str) -> list[Mapping[str, Any]]:
    """Return the YAML or JSON documents of a file, `-` for standard input. Raises `UnreadableInput`."""
    name = shown(path)
    try:
        if path == "-":
            text = sys.stdin.read()
        else:
            with open(path, encoding="utf-8-sig") as file:
                text = file.read()
        documents = _parsed(text)
    except OSError as error:
        raise UnreadableInput(f"{name}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableInput(f"{name} is neither YAML nor JSON: {error}") from error
    objects: list[Mapping[str, Any]] = [document for document in documents if isinstance(document, dict)]
    if not objects and any(document is not None for document in documents):
        raise UnreadableInput(
            f"{name} holds no Kubernetes objects; print them with `kubectl get nodes,pods -A -o yaml`"
        )
    return objects


def json_report(inventory: Inventory) -> str:
    """Return the inventory as the JSON document of design: unknown is null, never 0."""
    report = {"gpus": [_entry(offer) for offer in _rows(inventory)], "warnings": list(inventory.warnings)}
    return json.dumps(report, indent=2, ensure_ascii=False)


def table_report(inventory: Inventory) -> str:
    """Return the inventory as a table, warnings below it."""
    offers = _rows(inventory)
    if not offers:
        lines = ["No node offers a GPU resource."]
    else:
        rows = [_COLUMNS, *(_row(offer) for offer in offers)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if inventory.warnings:
        lines += ["", "Warnings:", *(f"  {warning}" for warning in inventory.warnings)]
    return "\n".join(lines)


def _rows(inventory: Inventory) -> list[GpuOffer]:
    """Return one offer for each node and class, and one for each declaration: its nodes do not exist yet."""
    rows = [offer for offer in inventory.offers if not offer.declared]
    declared: dict[tuple[str, GpuClass], GpuOffer] = {}
    for offer in inventory.offers:
        if offer.declared:
            key = (offer.node.name, offer.gpu_class)
            total = offer.capacity + (declared[key].capacity if key in declared else 0)
            declared[key] = replace(offer, capacity=total, allocatable=0, free=0)
    return [*rows, *declared.values()]


def _entry(offer: GpuOffer) -> dict[str, Any]:
    gpu = offer.gpu_class
    return {
        "node": offer.node.name,
        "resource": gpu.resource_name,
        "vendor": gpu.vendor,
        "product": gpu.product,
        "memory_gib": _gib(gpu.memory_bytes),
        "capacity": offer.capacity,
        "allocatable": offer.allocatable,
        "free": offer.free,
        "sharing": str(gpu.sharing),
        "mig_profile": gpu.mig_profile,
        "compute_capability": gpu.compute_capability,
        "basis": str(gpu.basis),
        "usable": offer.usable,
        "taints": [{"key": taint.key, "value": taint.value, "effect": taint.effect} for taint in offer.node.taints],
        "warnings": list(offer.warnings),
        "interconnect": gpu.interconnect,
        "declared": offer.declared,
    }


def _row(offer: GpuOffer) -> tuple[str, ...]:
    gpu = offer.gpu_class
    memory = _gib(gpu.memory_bytes)
    sharing = str(gpu.sharing) if gpu.mig_profile is None else f"{gpu.sharing} {gpu.mig_profile}"
    return (
        offer.node.name,
        gpu.resource_name,
        gpu.product or "unknown",
        "unknown" if memory is None else f"{memory:.2f}",
        str(gpu.basis),
        sharing,
        str(offer.capacity),
        str(offer.allocatable),
        str(offer.free),
        _usable(offer),
    )


def _usable(offer: GpuOffer) -> str:
    if offer.declared:
        return "when scaled"
    if not offer.usable:
        return "no"
    return "tainted" if any(taint.effect != "PreferNoSchedule" for taint in offer.node.taints) else "yes"


def _gib(memory_bytes: int | None) -> float | None:
    """Return GiB rounded down to thousandths: what a node has is never overstated."""
    return None if memory_bytes is None else memory_bytes * 1000 // 2**30 / 1000


def _parsed(text: str) -> list[object]:
    """Parse JSON (fast, and what `kubectl -o json` prints), else YAML with the C loader where it is built in."""
    if text.lstrip().startswith(("{", "[")):
        try:
            parsed = json.loads(text)
        except ValueError:
            pass
        else:
            return list(parsed) if isinstance(parsed, list) else [parsed]
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return list(_flattened(yaml.load_all(text, Loader=loader)))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _flattened(documents: Iterable[object]) -> Iterable[object]:
    for document in documents:
        if isinstance(document, list):
            yield from document
        else:
            yield document
