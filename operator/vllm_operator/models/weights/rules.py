"""Which format each layer of a checkpoint is stored in, by its name: what a quantization config comes down to.

`QuantizationRules` answers for one layer at a time. Layers that vLLM builds without a quantization config are marked so
in the blueprint and not asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from vllm_operator.models.weights.formats import PLAIN, WeightFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

_WILDCARD = re.compile(r"[*?\[]")
_WRAPPERS = ("model", "language_model", "backbone", "transformer", "thinker", "llm", "text_model", "decoder")


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """A layer's name without the wrappers that checkpoints and vLLM put before it.

    `model.language_model.layers.0.mlp`, `language_model.model.layers.0.mlp` and `backbone.layers.0.mlp` are one layer.
    """
    parts = name.split(".")
    start = 0
    while start < len(parts) - 1 and parts[start] in _WRAPPERS:
        start += 1
    return ".".join(parts[start:])


@dataclass(frozen=True, slots=True)
class Pattern:
    """One entry of an ignore or target list."""

    text: str
    prefix: bool = False
    substring: bool = False

    def matches(self, name: str) -> bool:
        """Whether the layer of that canonical name is meant."""
        if self.text.startswith("re:"):
            expression = _expression(self.text[3:])
            return expression.search(name) is not None or expression.search("model." + name) is not None
        if "*" in self.text:
            return fnmatchcase(name, self.text)
        if name == self.text:
            return True
        if self.substring and self.text in name:
            return True
        return self.prefix and name.startswith(self.text + ".")


_DIGIT = re.compile(r"\d")
_LONGEST_EXPRESSION = 300
_MOST_PATTERNS = 1000
"""Wildcards of one ignore list that are read; each is tried on every layer."""
_MOST_REPEATS = 3
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_REPEAT = re.compile(r"(?<!\\)[*+{]")
_NOTHING = re.compile(r"(?!)")


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    """A `re:` entry, compiled for `search`. One that could take long on a layer's name matches nothing.

    Configs come from strangers: `(a+)+b` or a row of `.*` would stop the operator. What is at the ends costs nothing,
    as `search` starts anywhere and need not reach the end.
    """
    body, anchored = pattern, True
    while body.startswith(".*"):
        body, anchored = body[2:], False
    while body.endswith(".*") and not body.endswith("\\.*"):
        body = body[:-2]
    if len(body) > _LONGEST_EXPRESSION or _REPEATED_GROUP.search(body) or len(_REPEAT.findall(body)) > _MOST_REPEATS:
        return _NOTHING
    try:
        return re.compile(f"^(?:{body})" if anchored else body)
    except (re.error, OverflowError, RecursionError):
        return _NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Layers that match a target, or lie below a named one, are stored in this format."""

    fmt: WeightFormat
    names: frozenset[str] = frozenset()
    patterns: tuple[Pattern, ...] = ()
    everything: bool = True

    def covers(self, name: str) -> bool:
        """Whether the layer of that canonical name is meant."""
        return self._named(name) or any(pattern.matches(name) for pattern in self.patterns)

    def _named(self, name: str) -> bool:
        while name:
            if name in self.names:
                return True
            name = name.rpartition(".")[0]
        return False


def rule_for(fmt: WeightFormat, targets: Sequence[str], *, everything: bool = False) -> Rule:
    """The rule that stores these targets in that format; `everything` when they mean every layer by its class."""
    plain = [target for target in targets if not target.startswith("re:") and "*" not in target]
    patterns = [target for target in targets if target.startswith("re:") or "*" in target]
    return Rule(
        fmt=fmt,
        names=frozenset(canonical(target.strip()) for target in plain),
        patterns=tuple(Pattern(_canonical_pattern(target)) for target in patterns),
        everything=everything,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationRules:
    """The formats of a checkpoint's layers."""

    method: str | None = None
    linear: WeightFormat = PLAIN
    experts: WeightFormat = PLAIN
    head_quantized: bool = False
    exact_names: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    """Beginnings of the names that are left alone: most wildcards are of the form `layers.0.self_attn*`."""
    patterns: tuple[Pattern, ...] = ()
    rules: tuple[Rule, ...] = ()
    known: bool = True
    """False when the method is not one that this module models."""

    @property
    def by_layer(self) -> bool:
        """Whether the answer may differ between layers: not where no name has a number in it, as with `lm_head`."""
        if self.patterns or any(rule.patterns for rule in self.rules):
            return True
        names = (*self.exact_names, *self.prefixes, *(name for rule in self.rules for name in rule.names))
        return any(_DIGIT.search(name) for name in names)

    def for_linear(self, name: str, parts: tuple[str, ...] = ()) -> WeightFormat:
        """The format of a linear layer; a fused layer is left alone when its parts are."""
        return self._decide(name, parts, self.linear)

    def for_head(self, name: str) -> WeightFormat:
        """The format of the output head: left alone unless a rule names it or the method quantizes it in words."""
        if self.head_quantized:
            return self.linear
        if self._ignored(name):
            return PLAIN
        return next((rule.fmt for rule in self.rules if rule.covers(name)), PLAIN)

    def for_experts(self, name: str) -> WeightFormat:
        """The format of a layer's routed experts."""
        samples = (f"{name}.0.down_proj", f"{name}.0.w2")
        return self._decide(name, (), self.experts, samples=samples)

    def _decide(
        self, name: str, parts: tuple[str, ...], default: WeightFormat, *, samples: tuple[str, ...] = ()
    ) -> WeightFormat:
        if default is PLAIN and not self.rules:
            return PLAIN
        name = canonical(name)
        parent = name.rpartition(".")[0]
        siblings = tuple(f"{parent}.{part}" for part in parts)
        if self._ignored(name) or (siblings and all(self._ignored(sibling) for sibling in siblings)):
            return PLAIN
        if any(self._ignored(canonical(sample)) for sample in samples):
            return PLAIN
        # Layers that a rule names come before those that it means by their class.
        for rule in sorted(self.rules, key=lambda rule: rule.everything):
            candidates = (name, *siblings, *map(canonical, samples))
            if rule.everything or any(rule.covers(candidate) for candidate in candidates):
                return rule.fmt
        return PLAIN if self.rules else default

    def _ignored(self, name: str) -> bool:
        if name in self.exact_names or name.startswith(self.prefixes):
            return True
        return any(pattern.matches(name) for pattern in self.patterns)


UNQUANTIZED = QuantizationRules()


def ignores(names: Sequence[str]) -> dict[str, Any]:
    """Plain names go to a set, the rest stay patterns: lists of a thousand names are common."""
    exact, prefixes, patterns = set(), [], []
    for name in dict.fromkeys(names):
        if name.startswith("re:"):
            patterns.append(Pattern(name))
        elif not _WILDCARD.search(name):
            exact.add(canonical(name))
        elif name.endswith("*") and not _WILDCARD.search(name[:-1]):
            prefixes.append(canonical(name[:-1]))
        else:
            patterns.append(Pattern(canonical(name)))
    return {
        "exact_names": frozenset(exact),
        "prefixes": tuple(prefixes[:_MOST_PATTERNS]),
        "patterns": tuple(patterns[:_MOST_PATTERNS]),
    }


def _canonical_pattern(text: str) -> str:
    return text if text.startswith("re:") else canonical(text)
