"""Readable YAML templates in which every expression is emitted as JSON.

JSON is YAML's flow style, so a value can hold anything and still be only a value: it cannot end a string, start a key
or add a tag. That is not taken on trust. Each template is rendered a second time with a placeholder in the place of
every value; the structure of that document comes from the template alone. With the values put back it must equal the
document that is used.
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
_PLACEHOLDER: Final = "__value_{}__"
_MEANT_OTHERWISE: Final = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""Characters that JSON leaves as they are and YAML reads as line breaks, or refuses."""


def render_template(name: str, values: Mapping[str, Any]) -> Manifest:
    """Return the object that a template makes of the values; equal values give an equal object.

    Raises:
        TemplateFault: the text is not one YAML mapping, or does not hold exactly the values that went in.
    """
    document = _parsed(name, rendered_text(name, values))
    emitted: list[object] = []

    def remember(value: object) -> str:
        emitted.append(value)
        return _as_json(_PLACEHOLDER.format(len(emitted) - 1))

    skeleton = _parsed(name, _text(name, values, remember))
    expected = _filled(skeleton, {_PLACEHOLDER.format(index): value for index, value in enumerate(emitted)})
    if document != expected:
        raise TemplateFault(f"{name}: a value changed the structure of the manifest")
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


def _parsed(name: str, text: str) -> Manifest:
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise TemplateFault(f"{name}: {error}") from error
    if not isinstance(document, dict):
        raise TemplateFault(f"{name}: not a mapping")
    return document


def _filled(node: Any, values: Mapping[str, object]) -> Any:
    """Put the values in the place of their placeholders."""
    if isinstance(node, dict):
        return {key: _filled(child, values) for key, child in node.items()}
    if isinstance(node, list):
        return [_filled(child, values) for child in node]
    return values.get(node, node) if isinstance(node, str) else node


@pass_context
def _finalize(context: Context, value: object) -> object:
    """Emit an expression. Taking the context keeps jinja2 from folding constants at compile time."""
    if isinstance(value, Undefined):
        return value  # printing it raises, naming what is undefined
    return context[_EMIT](value)


def _as_json(value: object) -> str:
    text = json.dumps(_exact(value), ensure_ascii=False, allow_nan=False)
    return _MEANT_OTHERWISE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _exact(value: object) -> object:
    """Refuse floats: YAML 1.1 reads some of JSON's spellings of them, such as 1e+16, as text."""
    if isinstance(value, float):
        raise TypeError(f"{value} is a float; manifests hold whole numbers and text")
    if isinstance(value, dict):
        return {key: _exact(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_exact(child) for child in value]
    return value


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("vllm_operator.render", "templates"),
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # The output is YAML whose values are JSON; HTML escaping would corrupt them.
        autoescape=False,
    )
