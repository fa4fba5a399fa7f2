"""How much memory CUDA shows of a card, by product: what `gpu_memory_utilization` is a share of.

It is less than the box says and less than NVML's total (the `nvidia.com/gpu.memory` label): ECC and the driver keep a
part. Figures are `torch.cuda.mem_get_info()[1]` as start-up logs of vLLM printed them; a product that no log named is
answered by analogy, or from the size in its name with the usual loss, and says so.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

GIB = 1024**3

_LOGGED: tuple[tuple[str, float], ...] = (
    # pattern in the product's name (first match wins), GiB as a start-up log printed them
    (r"\bh100|h800", 79.18),
    (r"\bh200", 139.80),
    (r"gb300|b300", 267.69),
    (r"gb10|dgx spark", 121.63),
    (r"(a100|a800).*40\s?g|40\s?gb.*a100", 39.49),
    (r"a100|a800", 79.25),
    (r"rtx pro 6000", 94.97),
    (r"l40s?\b", 44.42),
    (r"5090", 31.36),
    (r"4090|3090", 23.58),
    (r"5080", 15.51),
    (r"6000 ada|rtx 6000|a6000", 47.5),
    (r"\bl4\b", 22.03),
    (r"\bt4\b", 14.56),
    (r"v100.*32", 31.74),
    (r"v100", 15.77),
    (r"mi300x", 191.69),
)

_ASSUMED: tuple[tuple[str, float], ...] = (
    # the same where no log of ours names the card: by analogy with one of that memory and error correction
    (r"h100.*nvl|h100.*94", 93.1),
    (r"h20.*141|h20-?3e", 139.8),
    (r"quadro rtx 8000", 47.45),
    (r"titan rtx|quadro rtx 6000", 23.65),
    (r"rtx pro 5000", 47.4),
    (r"rtx pro 4500|rtx 5000 ada", 31.4),
    (r"rtx 4500 ada|rtx pro 4000", 23.5),
    (r"rtx 4000 ada|a4500", 19.55),
    (r"a4000|a16\b|\ba2\b", 14.5),
    (r"\bl20\b", 44.4),
    (r"\bp40\b", 22.38),
    (r"\bp100\b", 15.9),
    (r"4080 super|4060 ?ti.*16|5060 ?ti.*16", 15.5),
    (r"3080 ?ti|4070 ?ti(?! super)", 11.63),
    (r"3080", 9.5),
    (r"4060|5060|3070|3050|2080(?! ?ti)|2070", 7.6),
    (r"a5000", 23.68),
    (r"5090.*laptop", 23.9),
    (r"gh200.*144", 139.8),
    (r"gh200", 94.5),
    (r"\bh20\b", 95.1),
    (r"gb200|b200", 178.35),
    (r"a10g?\b", 22.06),
    (r"a40\b", 44.42),
    (r"a30\b", 23.5),
    (r"5070 ?ti|4080|4070 ?ti super", 15.5),
    (r"3060|4070|5070", 11.63),
    (r"2080 ?ti", 10.75),
    (r"mi325x", 255.7),
    (r"mi355x|mi350x", 287.7),
    (r"mi250x?|mi210", 63.98),
)

_STATED_GIB = re.compile(r"(\d+\.\d+)\s?gib", re.ASCII)
"""A note beside the product (`24GB GPU (23.52 GiB, RTX 4090)`): what the log itself printed."""

_MIG_PROFILE = re.compile(r"\b[1-7]g\.(\d{1,3})gb\b", re.ASCII)
"""A slice: `1g.10gb` of an H100. Its card's memory is not its own."""

_VISIBLE_SHARE_OF_SLICE = 0.95
"""9.5 GiB of `1g.10gb`, 4.75 of `1g.5gb`: 9,728 and 4,864 MiB (NVIDIA MIG user guide)."""

_NOMINAL_GB = re.compile(r"(\d+(?:\.\d+)?)\s?gi?b", re.ASCII)

_VISIBLE_SHARE_OF_NOMINAL = 0.985
"""Between the cards above with ECC (0.925, L40S) and without (0.98 to 0.995): used where only a size is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleMemory:
    """Bytes CUDA shows, and whether a log of that product said so."""

    bytes: int
    measured: bool


def names_slice(product: str | None) -> bool:
    """Whether the name is a MIG slice's, whose memory is the profile's rather than the card's."""
    return _MIG_PROFILE.search((product or "").lower()) is not None


@functools.lru_cache(maxsize=512)
def visible_memory(product: str | None) -> VisibleMemory | None:
    """Memory of a card by its product name, or None when the name says nothing of its size.

    Of several cards in one name (`A + B`) the smallest counts: the group's worst rank decides.
    """
    name = (product or "").lower()
    if " + " in name:
        cards = [card for part in name.split(" + ") if (card := visible_memory(part)) is not None]
        return min(cards, key=lambda card: card.bytes, default=None)
    stated = _STATED_GIB.search(name)
    if stated is not None:
        return VisibleMemory(bytes=int(float(stated.group(1)) * GIB), measured=True)
    profile = _MIG_PROFILE.search(name)
    if profile is not None:
        return VisibleMemory(bytes=int(float(profile.group(1)) * _VISIBLE_SHARE_OF_SLICE * GIB), measured=False)
    # NB: the assumed ones first, they are variants (GH200, H100 NVL) whose names hold a logged card's.
    for table, measured in ((_ASSUMED, False), (_LOGGED, True)):
        for pattern, gib in table:
            if re.search(pattern, name):
                return VisibleMemory(bytes=int(gib * GIB), measured=measured)
    nominal = _NOMINAL_GB.search(name)
    if nominal is None:
        return None
    return VisibleMemory(bytes=int(float(nominal.group(1)) * _VISIBLE_SHARE_OF_NOMINAL * GIB), measured=False)
