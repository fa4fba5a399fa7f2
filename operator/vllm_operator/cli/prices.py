"""What a GPU costs, as the user says, and what a plan's tokens cost then."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_operator.planning.plan import Plan

ANY_PRODUCT = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPrice:
    """The price of one GPU for one hour, in a currency of the user's."""

    pattern: str
    """Products that it is for, as `spec.gpu.products` names them."""
    per_hour: float


def add_prices(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what GPUs cost."""
    parser.add_argument(
        "--gpu-price-per-hour",
        metavar="[PRODUCT=]PRICE",
        type=gpu_price,
        action="append",
        default=[],
        help="what one GPU costs an hour, for all products or for those that match (*H100*=2.5); may be repeated, the "
        "first match counts. Shows the cost of a million tokens where the speed can be bounded",
    )


def gpu_price(text: str) -> GpuPrice:
    """Read `2.5` or `*H100*=2.5`.

    Raises:
        argparse.ArgumentTypeError: not a price.
    """
    pattern, separator, number = text.rpartition("=")
    try:
        per_hour = float(number)
    except ValueError:
        per_hour = math.nan
    if not (math.isfinite(per_hour) and per_hour >= 0) or (separator and not pattern):
        raise argparse.ArgumentTypeError(f"{text!r} is no price: write 2.5, or *H100*=2.5 for some products")
    return GpuPrice(pattern=pattern or ANY_PRODUCT, per_hour=per_hour)


def cost_of(plan: Plan, prices: Sequence[GpuPrice]) -> tuple[float, float] | None:
    """What a million generated tokens cost at full load; None without a price or without an honest speed."""
    if plan.performance is None or plan.placement is None:
        return None
    product = (plan.placement.gpu_class.product or "").lower()
    price = next((price for price in prices if fnmatchcase(product, price.pattern.lower())), None)
    if price is None:
        return None
    from vllm_operator.planning.performance import cost_per_million_tokens

    gpus = plan.placement.gpus_per_replica
    return cost_per_million_tokens(plan.performance, gpus=gpus, price_per_gpu_hour=price.per_hour)
