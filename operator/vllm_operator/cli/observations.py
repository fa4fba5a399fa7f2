"""`vllm-operator observations`: what vLLM was observed to leave for the KV cache, as the operator keeps it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.observations import DATA_KEY, read_observations, write_observations
from vllm_operator.cli.nodes import UnreadableInput, read_documents
from vllm_operator.cli.planning import EXIT_BAD_INPUT
from vllm_operator.planning.calibration import Observations

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_operator.api.observations import Observation
    from vllm_operator.cli.kube_api import KubeApi

NAMESPACE: Final = "vllm-operator"
CONFIG_MAP: Final = "vllm-operator-observations"
"""As a release named `vllm-operator` makes it."""
_COLUMNS: Final = ("MODEL", "ENGINE", "GPU", "TP", "PP", "DP", "PREDICTED", "OBSERVED", "ERROR %", "SEEN")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `observations` subcommand."""
    parser = subparsers.add_parser(
        "observations",
        help="what running vLLMs were observed to leave for the KV cache",
        description="Print the observations that the operator keeps in a ConfigMap. `-o json` is what "
        "`plan --observations` takes, in this cluster or in another.",
    )
    parser.add_argument("-f", "--filename", metavar="FILE", help="an exported file or ConfigMap instead; - is stdin")
    parser.add_argument("-n", "--namespace", default=NAMESPACE, help=f"namespace of the operator; default: {NAMESPACE}")
    parser.add_argument("--config-map", default=CONFIG_MAP, metavar="NAME", help=f"default: {CONFIG_MAP}")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="default: table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the observations; 2 when they cannot be read."""
    try:
        found = load_observations(args.filename) if args.filename else _of_cluster(args.namespace, args.config_map)
    except UnreadableInput as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(write_observations(found) if args.output == "json" else _table(found))
    return 0


def load_observations(path: str) -> Observations:
    """Return the observations of a file: exported ones, or the ConfigMap that holds them.

    What cannot be true is left out, with a line on standard error. Raises `UnreadableInput`.
    """
    from vllm_operator.cluster.documents import each_object

    found: list[Observation] = []
    texts = [text for document in read_documents(path) for obj in each_object(document) for text in _texts(obj)]
    if not texts:
        raise UnreadableInput(f"{path} holds no observations: print them with `vllm-operator observations -o json`")
    for text in texts:
        found += _read(text, path)
    return Observations(found)


def _texts(obj: Mapping[str, Any]) -> Iterator[str]:
    if obj.get("kind") == "ConfigMap":
        text = (obj.get("data") or {}).get(DATA_KEY)
        if isinstance(text, str):
            yield text
    elif "observations" in obj:
        yield json.dumps(obj, default=str)


def _of_cluster(namespace: str, name: str, api: KubeApi | None = None) -> Observations:
    from vllm_operator.cli.kube_api import ApiServerError, KubeApi

    try:
        found = (api or KubeApi()).get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    except ApiServerError as error:
        raise UnreadableInput(str(error)) from error
    where = f"ConfigMap {namespace}/{name}"
    return Observations(
        observation for text in _texts({**found, "kind": "ConfigMap"}) for observation in _read(text, where)
    )


def _read(text: str, where: str) -> tuple[Observation, ...]:
    try:
        observations, problems = read_observations(text)
    except ValueError as error:
        raise UnreadableInput(f"{where} holds no observations: {error}") from error
    for problem in problems:
        print(f"warning: {where}: {problem}", file=sys.stderr)
    return observations


def _table(observations: Iterable[Observation]) -> str:
    rows = [_COLUMNS, *(_row(one) for one in sorted(observations, key=lambda one: (one.key.model, one.observed_at)))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(one: Observation) -> tuple[str, ...]:
    error = 100 * (one.predicted_kv_cache_tokens - one.kv_cache_tokens) / one.kv_cache_tokens
    return (
        one.key.model,
        one.key.engine_version,
        one.key.gpu_product or one.key.resource_name,
        str(one.key.tensor_parallel_size),
        str(one.key.pipeline_parallel_size),
        str(one.key.data_parallel_size),
        f"{one.predicted_kv_cache_tokens:,}",
        f"{one.kv_cache_tokens:,}",
        f"{error:+.1f}",
        one.observed_at,
    )
