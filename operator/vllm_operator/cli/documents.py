"""The documents of `-f`: VLLMDeployments, and what may stand beside them (ConfigMap of `configRef`, Nodes, Pods)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.api.v1alpha1 import API_VERSION, KIND, SpecError, VLLMDeployment, parse_deployment
from vllm_operator.cli.nodes import UnreadableInput, read_documents, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What was read from one file."""

    deployments: tuple[VLLMDeployment, ...]
    config_maps: Mapping[tuple[str, str], Mapping[str, str]]
    """Data by namespace and name."""
    others: tuple[Mapping[str, Any], ...]
    """Every other object: nodes and pods may be among them."""


def read_deployments(path: str) -> Documents:
    """Read a file of YAML or JSON documents; `-` is standard input.

    Raises:
        UnreadableInput: it cannot be read, holds no VLLMDeployment, or one of them is not valid; the message names
            the document and each field that is wrong.
    """
    deployments: list[VLLMDeployment] = []
    config_maps: dict[tuple[str, str], Mapping[str, str]] = {}
    others: list[Mapping[str, Any]] = []
    placed = list(_placed(read_documents(path)))
    for where, obj in placed:
        kind = obj.get("kind")
        if kind == KIND:
            deployments.append(_deployment(obj, where=f"{shown(path)}: {where}"))
        elif kind == "ConfigMap":
            config_maps[_name(obj)] = _data(obj)
        else:
            others.append(obj)
    if not deployments:
        found = ", ".join(sorted({str(obj.get("kind")) for _, obj in placed})) or "nothing (an empty List)"
        raise UnreadableInput(f"{shown(path)} holds no {KIND} (apiVersion {API_VERSION}), only {found}")
    return Documents(deployments=tuple(deployments), config_maps=config_maps, others=tuple(others))


def _placed(documents: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield where an object is in its file, and the object; Lists, as kubectl prints them, are opened."""
    from vllm_operator.cluster.documents import each_object

    for number, document in enumerate(documents, 1):
        for item, obj in enumerate(each_object(document), 1):
            yield f"document {number}" if obj is document else f"document {number}, item {item} of the List", obj


def _deployment(obj: Mapping[str, Any], *, where: str) -> VLLMDeployment:
    try:
        return parse_deployment(obj, from_file=True)
    except SpecError as error:
        problems = "".join(f"\n  {line}" for line in _lines(error))
        raise UnreadableInput(f"{where} is not a valid {KIND}:{problems}") from error


def _lines(error: SpecError) -> Iterator[str]:
    for path, message in error.problems:
        yield f"{path}: {message}" if path else message


def _name(obj: Mapping[str, Any]) -> tuple[str, str]:
    metadata = obj.get("metadata") or {}
    return str(metadata.get("namespace") or "default"), str(metadata.get("name"))


def _data(obj: Mapping[str, Any]) -> Mapping[str, str]:
    data = obj.get("data")
    return {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}
