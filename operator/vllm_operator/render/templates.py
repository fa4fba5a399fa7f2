"""Readable YAML templates in which every expression is emitted as JSON.

JSON is YAML's flow style, so a value can hold anything and still be only a value: it cannot end a string, start a key or
add a tag. The text is parsed back before anybody uses it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined

if TYPE_CHECKING:
    from collections.abc import Mapping

Manifest = dict[str, Any]

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TemplateError(Exception):
    """A template did not render to one YAML mapping: a fault of ours, never of the user's values."""


def render_template(name: str, values: Mapping[str, Any]) -> Manifest:
    """Return the object that a template makes of the values.

    Raises:
        TemplateError: the text is not one YAML mapping.
    """
    text = _environment().get_template(f"{name}.yaml.j2").render(values)
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise TemplateError(f"{name}: {error}") from error
    if not isinstance(document, dict):
        raise TemplateError(f"{name}: not a mapping")
    return document


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("vllm_operator.render", "templates"),
        finalize=_as_json,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # The output is YAML whose values are JSON; HTML escaping would corrupt them.
        autoescape=False,
    )


def _as_json(value: object) -> object:
    if isinstance(value, Undefined):
        return value
    # ASCII only: YAML gives some Unicode characters (line separators, controls) a meaning that JSON does not.
    return json.dumps(value, ensure_ascii=True, allow_nan=False)
