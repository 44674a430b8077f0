# SPDX-License-Identifier: Apache-2.0
"""A linear axis that several charts share, and the marks drawn on all of them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Axis:
    """Maps scores to pixels: ``low`` lies at ``start``, ``high`` at ``stop``."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Pixel of a value; values outside are kept at the edge so that nothing is drawn outside the frame."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)


@dataclass(frozen=True)
class Marker:
    """A ruler drawn through every row: where the floor, a twin, static vectors or the ceiling lie."""

    kind: Literal["zero", "floor", "twin", "static", "ceiling", "other"]
    label: str
    value: float


def ticks(low: float, high: float, n: int = 4) -> list[float]:
    """About ``n`` round values (1, 2, 2.5 or 5 times a power of ten) inside ``[low, high]``."""
    if not high > low:
        return [low]
    rough = (high - low) / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def tick_text(value: float) -> str:
    """A tick without trailing zeros, with a real minus sign."""
    return f"{value:.4f}".rstrip("0").rstrip(".").replace("-", "\N{MINUS SIGN}") or "0"


def shared_axis(values: Iterable[float], width: float, margin: float = 6.0) -> Axis:
    """An axis that holds 0 and all values, with 4 % of air on both sides."""
    held = [0.0, *(value for value in values if math.isfinite(value))]
    low, high = min(held), max(held)
    air = 0.04 * (high - low) or 0.05
    return Axis(low - air, high + air, margin, width - margin)
