"""Facts of much-used public models, so that planning them needs no network.

`catalogue.json` is made by `scripts/make_catalogue.py` from the models' configs. A model's facts here are those of the
commit in `revision`; null means that the commit is not recorded, and the plan then pins whatever the Hub resolves.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import Any

from vllm_operator.models.facts import CheckpointFacts, FactsBasis, ModelFacts, ModelSource
from vllm_operator.models.parse import parse_model

_SCHEMES = ("hf://", "https://huggingface.co/")


def lookup(uri: str) -> ModelFacts | None:
    """The facts of a model by its Hub id (`org/name` or `hf://org/name`), None when it is not in the catalogue."""
    return _facts(_model_id(uri))


def speaks_of(known: ModelFacts, revision: str | None) -> bool:
    """Whether facts from here are of the revision that was asked for; branches other than main are not known here."""
    recorded = known.source.revision if known.source is not None else None
    return revision in (None, "main") or revision == recorded


def model_ids() -> tuple[str, ...]:
    """Every model of the catalogue, sorted."""
    return tuple(sorted(_entries()))


def _model_id(uri: str) -> str:
    for scheme in _SCHEMES:
        uri = uri.removeprefix(scheme)
    return uri.strip("/")


@lru_cache(maxsize=256)
def _facts(model_id: str) -> ModelFacts | None:
    entry = _entries().get(model_id)
    if entry is None:
        return None
    checkpoint = None
    if entry.get("has_lm_head") is not None:
        checkpoint = CheckpointFacts(has_lm_head=entry["has_lm_head"], basis=FactsBasis.CONFIG)
    source = ModelSource(uri=model_id, revision=entry["revision"])
    return parse_model(entry["config"], checkpoint=checkpoint, source=source)


@lru_cache(maxsize=1)
def _entries() -> dict[str, dict[str, Any]]:
    text = resources.files("vllm_operator.models").joinpath("catalogue.json").read_text(encoding="utf-8")
    entries: dict[str, dict[str, Any]] = json.loads(text)
    return entries
