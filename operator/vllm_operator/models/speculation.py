"""What proposes tokens in speculative decoding. Source: vllm/config/speculative.py `SpeculativeMethod`@0.33.0."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Drafter(Enum):
    """What runs beside the model, by what it takes of the GPU."""

    NOTHING = "no speculative decoding, or one that needs no weights (n-grams, suffixes)"
    OWN_LAYERS = "draft layers of the checkpoint itself (multi-token prediction)"
    HEAD = "a head of one decoder layer on the model's hidden states (EAGLE and its like)"
    MODEL = "a second, smaller model"


_WITHOUT_WEIGHTS: Final = ("ngram", "[ngram]", "suffix")
_HEADS: Final = ("eagle", "medusa", "mlp_speculator", "dflash")


def drafter_of(speculative: Mapping[str, object] | None) -> Drafter:
    """Read a `--speculative-config`; a method that is not known here counts as a second model."""
    if not speculative:
        return Drafter.NOTHING
    named = speculative.get("method") or speculative.get("model") or speculative.get("modelUri")
    method = named.lower() if isinstance(named, str) else ""
    if method.startswith(_WITHOUT_WEIGHTS):
        return Drafter.NOTHING
    if method.endswith("mtp"):
        return Drafter.OWN_LAYERS
    return Drafter.HEAD if any(name in method for name in _HEADS) else Drafter.MODEL


def draft_model_of(speculative: Mapping[str, object] | None) -> str | None:
    """Name of the second model; None where there is none or it is not named."""
    model = (speculative or {}).get("model")
    return model if isinstance(model, str) and model else None
