"""A plot of the errors as plain SVG: no plotting library, and a diff that can be read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.accuracy.errors import Miss

WIDTH, HEIGHT, MARGIN = 720, 360, 56
SMALLEST_GIB, LARGEST_GIB = 1.0, 200.0
LARGEST_PERCENT = 20.0


def error_plot(in_sample: Sequence[Miss], left_out: Sequence[Miss]) -> str:
    """Error in percent against measured KV memory: shipped constants (dots) and left out of the fit (rings)."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"',
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_axes(),
        *(_mark(miss, 'fill="none" stroke="#c2410c"') for miss in left_out),
        *(_mark(miss, 'fill="#1d4ed8" fill-opacity="0.6"') for miss in in_sample),
        f'<text x="{MARGIN}" y="20">Error of predicted KV memory: blue, shipped constants; orange rings, model family '
        "left out of the fit (clipped at 20 %)</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axes() -> Iterable[str]:
    for percent in (-20, -10, -5, 0, 5, 10, 20):
        y = _y(percent)
        dash = "" if percent == 0 else ' stroke-dasharray="2 4"'
        yield f'<line x1="{MARGIN}" y1="{y:.1f}" x2="{WIDTH - 16}" y2="{y:.1f}" stroke="#9ca3af"{dash}/>'
        yield f'<text x="{MARGIN - 8}" y="{y + 4:.1f}" text-anchor="end">{percent:+d} %</text>'
    for gib in (1, 3, 10, 30, 100):
        yield f'<text x="{_x(gib):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{gib} GiB</text>'


def _mark(miss: Miss, style: str) -> str:
    percent = max(-LARGEST_PERCENT, min(LARGEST_PERCENT, miss.percent))
    return (
        f'<circle cx="{_x(miss.measured):.1f}" cy="{_y(percent):.1f}" r="4" {style}>'
        f"<title>{miss.start.id} {miss.percent:+.1f} %</title></circle>"
    )


def _x(gib: float) -> float:
    share = math.log(gib / SMALLEST_GIB) / math.log(LARGEST_GIB / SMALLEST_GIB)
    return MARGIN + share * (WIDTH - MARGIN - 16)


def _y(percent: float) -> float:
    span = HEIGHT - 2 * MARGIN + 24
    return 32 + span * (LARGEST_PERCENT - percent) / (2 * LARGEST_PERCENT)
