"""Where the command line takes a model's facts from, nearest first: a directory, the file, the catalogue, the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vllm_operator.cli.nodes import UnreadableInput
from vllm_operator.models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.v1alpha1 import VLLMDeployment
    from vllm_operator.models.facts import ModelFacts


def facts_for(
    deployment: VLLMDeployment,
    *,
    directory: str | None,
    config_maps: Mapping[tuple[str, str], Mapping[str, str]],
) -> tuple[ModelFacts | None, str | None]:
    """The facts of a deployment's model, or None and why they cannot be had.

    Raises:
        UnreadableInput: what the user gave (directory or ConfigMap) cannot be read as a model.
    """
    model = deployment.spec.model
    if directory is not None:
        return _from_directory(Path(directory), model.uri), None
    if model.config_ref is not None:
        key = (deployment.metadata.namespace, model.config_ref.name)
        return _from_config_map(deployment, config_maps.get(key)), None
    from vllm_operator.models import catalogue

    try:
        known = catalogue.lookup(model.uri)
    except ModelError as error:
        return None, str(error)
    if known is not None and catalogue.speaks_of(known, model.revision):
        return known, None
    return _from_hub(deployment)


def _from_directory(directory: Path, uri: str) -> ModelFacts:
    """Read `DIR`, or the model's own folder in it (`org/name` or `org__name`) when DIR holds several models."""
    from vllm_operator.models.source.directory import load_directory

    model_id = uri.removeprefix("hf://")
    inner = (directory / model_id, directory / model_id.replace("/", "__"))
    chosen = next((folder for folder in inner if (folder / "config.json").is_file()), directory)
    try:
        return load_directory(chosen)
    except ModelError as error:
        raise UnreadableInput(f"--facts {error}") from error


def _from_config_map(deployment: VLLMDeployment, data: Mapping[str, str] | None) -> ModelFacts:
    from vllm_operator.models.source.given import facts_of_config_map

    model = deployment.spec.model
    assert model.config_ref is not None
    if data is None:
        raise UnreadableInput(
            f"spec.model.configRef names the ConfigMap {model.config_ref.name!r}, which is not in the file: "
            "put it beside the deployment, or give the model's directory with --facts"
        )
    try:
        return facts_of_config_map(data, uri=model.uri, key=model.config_ref.key, revision=model.revision)
    except ModelError as error:
        raise UnreadableInput(str(error)) from error


def _from_hub(deployment: VLLMDeployment) -> tuple[ModelFacts | None, str | None]:
    import asyncio

    from huggingface_hub import get_token

    from vllm_operator.models.source.facts_source import FactsSource
    from vllm_operator.models.source.hub import HubSource

    hub = HubSource()
    try:
        return asyncio.run(FactsSource(hub).load(deployment.spec.model, get_token())), None
    except ModelError as error:
        return None, str(error)
    finally:
        hub.close()
