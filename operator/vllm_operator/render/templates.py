"""Readable YAML templates in which every expression is emitted as JSON.

JSON is YAML's flow style, so a value can hold anything and still be only a value: it cannot end a string, start a key
or add a tag. An object does not even rest on that: its template is rendered with a placeholder in the place of every
value, so that the structure of the document comes from the template alone, and the values are put into the parsed
document. Templates take few shapes, so each is parsed once.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError, Undefined, pass_context

from vllm_operator.render.errors import TemplateFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jinja2.runtime import Context

Manifest = dict[str, Any]

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_EMIT: Final = "__emit__"
_PLACEHOLDER: Final = re.compile(r"__value_(\d+)__")
_MOST_SHAPES: Final = 256
"""Optional sections of ten templates, present or not."""
_MEANT_OTHERWISE: Final = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""Characters that JSON leaves as they are and YAML reads as line breaks, or refuses."""


class _Place(int):
    """Where a value belongs in a parsed template: its number among all that the template emits."""


def render_template(name: str, values: Mapping[str, Any]) -> Manifest:
    """Return the object that a template makes of the values; equal values give an equal object, no part of it shared.

    Raises:
        TemplateFault: the template is not one YAML mapping, a name in it has no value, or a value is not plain data.
    """
    emitted: list[object] = []

    def remember(value: object) -> str:
        emitted.append(_plain(value))
        return f'"__value_{len(emitted) - 1}__"'

    document: Manifest = _filled(_shape(name, _text(name, values, remember)), emitted)
    return document


def rendered_text(name: str, values: Mapping[str, Any]) -> str:
    """Return the YAML text of a template, as a reader would see it.

    Raises:
        TemplateFault: a name in the template has no value, or a value has no exact form in YAML.
    """
    return _text(name, values, _as_json)


def _text(name: str, values: Mapping[str, Any], emit: Callable[[object], str]) -> str:
    try:
        return _environment().get_template(f"{name}.yaml.j2").render({**values, _EMIT: emit})
    except (TemplateError, TypeError, ValueError) as error:
        raise TemplateFault(f"{name}: {error}") from error


@lru_cache(maxsize=_MOST_SHAPES)
def _shape(name: str, text: str) -> Manifest:
    """Parse a document of placeholders into one of places; it is shared and must not be changed."""
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise TemplateFault(f"{name}: {error}") from error
    if not isinstance(document, dict):
        raise TemplateFault(f"{name}: not a mapping")
    places: list[_Place] = []
    shape: Manifest = _with_places(document, places)
    if sorted(places) != sorted(map(int, _PLACEHOLDER.findall(text))):
        raise TemplateFault(f"{name}: an expression is a key, or only a part of a value")
    return shape


def _with_places(node: Any, places: list[_Place]) -> Any:
    """Put a place where a placeholder stands for a whole value, and note it."""
    if isinstance(node, dict):
        return {key: _with_places(child, places) for key, child in node.items()}
    if isinstance(node, list):
        return [_with_places(child, places) for child in node]
    if isinstance(node, str) and (found := _PLACEHOLDER.fullmatch(node)):
        places.append(_Place(found[1]))
        return places[-1]
    return node


def _filled(node: Any, values: list[object]) -> Any:
    """Put the values in their places."""
    kind = type(node)
    if kind is _Place:
        return values[node]
    if kind is dict:
        return {key: child if type(child) is str else _filled(child, values) for key, child in node.items()}
    if kind is list:
        return [_filled(child, values) for child in node]
    return node


@pass_context
def _finalize(context: Context, value: object) -> object:
    """Emit an expression. Taking the context keeps jinja2 from folding constants at compile time."""
    if isinstance(value, Undefined):
        return value  # printing it raises, naming what is undefined
    return context[_EMIT](value)


def _as_json(value: object) -> str:
    text = json.dumps(_plain(value), ensure_ascii=False)
    return _MEANT_OTHERWISE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(value: object) -> object:
    """Return a copy of plain data; without floats, as YAML 1.1 reads some of JSON's spellings of them as text."""
    kind = type(value)
    if kind is str or value is None or kind is int or kind is bool:
        return value
    if isinstance(value, dict):
        return {
            key if type(key) is str else _key(key): child if type(child) is str else _plain(child)
            for key, child in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [child if type(child) is str else _plain(child) for child in value]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        raise TypeError(f"{value} is a float; manifests hold whole numbers and text")
    raise TypeError(f"{type(value).__name__} has no form in a manifest")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key {key!r} is no text")
    return str.__str__(key)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("vllm_operator.render", "templates"),
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # The templates are part of the package: jinja2 would ask the file system about each of them at each rendering.
        auto_reload=False,
        # The output is YAML whose values are JSON; HTML escaping would corrupt them.
        autoescape=False,
    )
