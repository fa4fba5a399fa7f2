"""How sure a prediction is: an 80 % interval around the KV memory, wider where the model extrapolates.

Independent doubts add in quadrature; a doubt that can only help (a leaner sampler) or only hurt moves one end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.models.memory.constants import INTERVAL_SIGMAS
from vllm_operator.models.versions import GIB

if TYPE_CHECKING:
    from vllm_operator.models.memory.constants import MemoryConstants

UNSTATED_VERSION_DOUBT_GIB = 1.0
NEWER_VERSION_DOUBT_GIB = 0.6
UNIFIED_MEMORY_DOUBT_GIB = 1.5
"""Page cache and loader buffers are counted on unified memory: identical starts of a GB10 differ by 1.2 GiB."""
ENCODER_DOUBT_GIB = 0.25
"""Encoders of unseen families: the profile run feeds them their largest input."""
FREE_SIZE_ENCODER_DOUBT_GIB = 0.8
"""The same where images have any size: what they cost is computed, not measured (vllm#16570, #22173, #34209)."""
GRAPH_DOUBT = 0.4
"""Relative doubt of the graphs' charge: estimates and captures in the logs differ by up to 40 %."""
KNOWN_CARD_DOUBT = 0.001
"""Relative spread of the memory that CUDA shows of one product: 79.14 to 79.25 GiB in logs of an H100 or A100."""
UNKNOWN_CARD_DOUBT = 0.01
"""Relative doubt of a card's memory that was guessed from its nominal size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubts:
    """What is not certain about one prediction, in bytes or as flags."""

    weights_bytes: float
    activation_bytes: float
    graphs_charged_bytes: float
    requested_bytes: float
    lean_sampler_gain_bytes: float
    link_gib: float
    """Spread of the buffers between ranks; 0 on one GPU."""
    encodes_media: bool
    any_image_size: bool
    version_stated: bool
    version_known: bool
    card_measured: bool
    unified_memory: bool
    is_hopper: bool


def spread_bytes(doubts: Doubts, constants: MemoryConstants) -> float:
    """Half-width of the 80 % interval, before one-sided doubts."""
    terms = [
        constants.residual_gib * GIB,
        doubts.weights_bytes,
        constants.activation_doubt * doubts.activation_bytes,
        GRAPH_DOUBT * doubts.graphs_charged_bytes,
        KNOWN_CARD_DOUBT * doubts.requested_bytes,
        doubts.link_gib * GIB,
    ]
    if not doubts.is_hopper:
        terms.append(constants.other_cards_doubt_gib * GIB)
    if doubts.encodes_media:
        terms.append((FREE_SIZE_ENCODER_DOUBT_GIB if doubts.any_image_size else ENCODER_DOUBT_GIB) * GIB)
    if not doubts.version_stated:
        terms.append(UNSTATED_VERSION_DOUBT_GIB * GIB)
    elif not doubts.version_known:
        terms.append(NEWER_VERSION_DOUBT_GIB * GIB)
    if not doubts.card_measured:
        terms.append(UNKNOWN_CARD_DOUBT * doubts.requested_bytes)
    if doubts.unified_memory:
        terms.append(UNIFIED_MEMORY_DOUBT_GIB * GIB)
    return INTERVAL_SIGMAS * math.hypot(*terms)


def interval_bytes(kv_cache_bytes: int, doubts: Doubts, constants: MemoryConstants) -> tuple[int, int]:
    """The 80 % interval of the KV memory: never below nothing."""
    half = spread_bytes(doubts, constants)
    low = max(0, int(kv_cache_bytes - half))
    high = max(0, int(kv_cache_bytes + half + doubts.lean_sampler_gain_bytes))
    return low, high
